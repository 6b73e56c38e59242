"""Plans what will be scored and what not, before anything is read, scored or written."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from stemforge import storage
from stemforge.eval.scoring.estimates import Estimates
from stemforge.eval.scoring.scores import Scoring, TrackScores
from stemforge.features.corpus.sources import ACCOMPANIMENT, rest_of
from stemforge.pipelines.scoring.methods import (
    AgainstRest,
    FromFolder,
    FromModel,
    Method,
    Oracle,
)
from stemforge.pipelines.scoring.score_files import track_of


@dataclass(frozen=True)
class TrackSources:
    """A track, and the files of its mixture and true stems.

    Attributes:
        name: of the track.
        open: a context manager that gives local files of the mixture and the stems.
        files: places whose contents these depend on.
        parts: the stems, and what each is the sum of, by the names in the corpus.
        is_complete: whether the corpus' stems are all of its mixtures. Else the rest of a stem is
            the mixture minus the stem.
    """

    name: str
    open: Callable[[], AbstractContextManager[dict[str, Path]]]
    files: tuple[str, ...] = ()
    parts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    is_complete: bool = True


@dataclass(frozen=True)
class Job:
    """One track to score by one method.

    Attributes:
        method: its name in the tables.
        track: the track and its truth.
        estimates: makes the estimates.
        scoring: how to score.
        out: folder of scores, local or a URL.
    """

    method: str
    track: TrackSources
    estimates: Method
    scoring: Scoring
    out: str


@dataclass(frozen=True)
class Plan:
    """The work for one method and the oracles that it is compared with.

    Attributes:
        method: its name in the tables.
        out: folder of scores, local or a URL.
        scoring: how the method is scored.
        in_turn: jobs to do one by one, since each uses all cores.
        side_by_side: jobs to do in parallel processes.
        unscored: the method's tracks without anything to score, with the reasons.
        stale: places of the method's files that no longer belong to a track.
    """

    method: str
    out: str
    scoring: Scoring
    in_turn: tuple[Job, ...] = ()
    side_by_side: tuple[Job, ...] = ()
    unscored: tuple[TrackScores, ...] = ()
    stale: tuple[str, ...] = ()


def plan_scores(
    method: str,
    tracks: Sequence[TrackSources],
    found: Estimates | FromModel,
    *,
    stems: Sequence[str],
    oracles: Iterable[str],
    scoring: Scoring,
    out: str,
    there: Iterable[str],
) -> Plan:
    """Plans the scores of a method and of oracles.

    Args:
        method: its name in the tables.
        tracks: the corpus' test tracks.
        found: the estimates in a folder, or the model that makes them.
        stems: of the corpus.
        oracles: names of the oracles to score too.
        scoring: how to score.
        out: folder of scores, local or a URL.
        there: the method's files in `out` from earlier runs, as places below `out`.

    Returns:
        The plan. A method of one target is scored as a pair with the rest of the mixture. The
        oracles are scored in the same pairs as the method, so that they can be compared target by
        target.
    """
    names = tuple(oracles)
    complete = all(track.is_complete for track in tracks)
    rests = {stem: rest_of(stem, stems, complete=complete) for stem in stems}
    targets, method_of = _in_pairs(found.targets, stems, complete=complete)
    if len(found.targets) == 1:
        stem = next(target for target in targets if target in stems)
        scoring = dataclasses.replace(scoring, against_rest=(stem,))
    in_turn: tuple[Job, ...] = ()
    side_by_side: tuple[Job, ...] = ()
    unscored: tuple[TrackScores, ...] = ()
    if isinstance(found, FromModel):
        known = {track.name for track in tracks}
        in_turn = tuple(Job(method, track, method_of(found), scoring, out) for track in tracks)
    else:
        known = set(found.remarks)
        some = [track for track in tracks if found.files[track.name]]
        side_by_side = tuple(
            Job(method, track, method_of(FromFolder.of(found, track.name)), scoring, out)
            for track in some
        )
        unscored = tuple(
            TrackScores(track, {}, remarks=remarks)
            for track, remarks in found.remarks.items()
            if not found.files.get(track)
        )
    paired = tuple(s for s, rest in rests.items() if {s, rest} <= {*targets} and rest not in rests)
    compared = dataclasses.replace(scoring, against_rest=paired)
    accompanied = {ACCOMPANIMENT} - {*stems} if scoring.accompaniment else set()
    scored_rests = tuple(sorted({rests[stem] for stem in paired} | accompanied))
    side_by_side += tuple(
        Job(name, track, Oracle(name, scored_rests), compared, out)
        for track in tracks
        for name in names
    )
    stale = tuple(storage.join(out, place) for place in there if track_of(place) not in known)
    return Plan(method, out, scoring, in_turn, side_by_side, unscored, stale)


def _in_pairs(
    targets: Sequence[str], stems: Sequence[str], *, complete: bool
) -> tuple[tuple[str, ...], Callable[[Method], Method]]:
    """The targets with the rest of a single one, and what adds that rest to a method."""
    if len(targets) != 1:
        return tuple(targets), lambda method: method
    (target,) = targets
    rest = rest_of(target, stems, complete=complete)
    return (target, rest), lambda method: AgainstRest(method, target, rest)

"""Plans what will be scored and what not, before anything is read, scored or written."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from stemforge import storage
from stemforge.eval.scoring.estimates import Estimates
from stemforge.eval.scoring.scores import Scoring, TrackScores
from stemforge.features.corpus.sources import ACCOMPANIMENT
from stemforge.pipelines.scoring.methods import FromFolder, FromModel, Method, Oracle
from stemforge.pipelines.scoring.score_files import track_of


@dataclass(frozen=True)
class TrackSources:
    """A track, and the files of its mixture and true stems.

    Attributes:
        name: of the track.
        open: a context manager that gives local files of the mixture and the stems.
        files: places whose contents these depend on.
    """

    name: str
    open: Callable[[], AbstractContextManager[dict[str, Path]]]
    files: tuple[str, ...] = ()


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
        oracles: names of the oracles to score too.
        scoring: how to score.
        out: folder of scores, local or a URL.
        there: the method's files in `out` from earlier runs, as places below `out`.

    Returns:
        The plan. If the method has an accompaniment, the oracles are scored with one too, so that
        they can be compared target by target.
    """
    in_turn: tuple[Job, ...] = ()
    side_by_side: tuple[Job, ...] = ()
    unscored: tuple[TrackScores, ...] = ()
    if isinstance(found, FromModel):
        known = {track.name for track in tracks}
        in_turn = tuple(Job(method, track, found, scoring, out) for track in tracks)
    else:
        known = set(found.remarks)
        some = [track for track in tracks if found.files[track.name]]
        side_by_side = folder_jobs(method, some, found, scoring=scoring, out=out)
        unscored = tuple(
            TrackScores(track, {}, remarks=remarks)
            for track, remarks in found.remarks.items()
            if not found.files.get(track)
        )
    paired = scoring.accompaniment or ACCOMPANIMENT in found.targets
    compared = dataclasses.replace(scoring, accompaniment=paired)
    side_by_side += oracle_jobs(oracles, tracks, scoring=compared, out=out)
    stale = tuple(storage.join(out, place) for place in there if track_of(place) not in known)
    return Plan(method, out, scoring, in_turn, side_by_side, unscored, stale)


def folder_jobs(
    method: str, tracks: Iterable[TrackSources], found: Estimates, *, scoring: Scoring, out: str
) -> tuple[Job, ...]:
    """A job for each track, with the estimates in a folder."""
    return tuple(
        Job(method, track, FromFolder.of(found, track.name), scoring, out) for track in tracks
    )


def oracle_jobs(
    oracles: Iterable[str], tracks: Iterable[TrackSources], *, scoring: Scoring, out: str
) -> tuple[Job, ...]:
    """A job for each track and oracle, track by track."""
    names = tuple(oracles)
    rests = (ACCOMPANIMENT,) if scoring.accompaniment else ()
    return tuple(
        Job(name, track, Oracle(name, rests), scoring, out) for track in tracks for name in names
    )

"""`stemforge score`: scores estimates of any source against the true stems."""

import argparse
import functools
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from stemforge import storage
from stemforge.errors import IncompleteError, UserError
from stemforge.eval.config import ORACLES, Average, NanPolicy, Undetermined
from stemforge.features.corpus.sources import MIXTURE, STEMS, check_stem_names, parts_of
from stemforge.pipelines.options import (
    add_model_options,
    check_method_name,
    split_mapping,
    split_names,
)

if TYPE_CHECKING:
    from stemforge.eval.leaderboard.board import Leaderboard
    from stemforge.eval.scoring.estimates import Estimates
    from stemforge.eval.scoring.scores import Scoring
    from stemforge.features.audio.ffmpeg import AudioInfo
    from stemforge.features.corpus.corpora import CorpusTrack
    from stemforge.features.corpus.musdb18 import TestSet
    from stemforge.pipelines.scoring.methods import FromModel
    from stemforge.pipelines.scoring.plan import Plan
    from stemforge.pipelines.scoring.score_files import Scores

# Heavy imports wait until a command runs: help answers within a second.


def add_to(commands: Any) -> None:
    """Adds the command's parser."""
    parser = commands.add_parser(
        "score",
        help="museval's scores of estimates, and a leaderboard",
        description="Scores estimates of a corpus' test tracks by BSSEval v4, as museval does, and "
        "compares all methods in the folder --output. Exit code 1 if an estimate was missing or "
        "had a problem; the others are scored. A stopped run is resumed.",
    )
    option = parser.add_argument
    option(
        "estimates",
        nargs="?",
        metavar="ESTIMATES",
        help="folder with TRACK/TARGET.wav or .flac, or test/TRACK/TARGET.wav; else give --model",
    )
    option(
        "--corpus",
        required=True,
        metavar="ROOT",
        help="MUSDB folder with .stem.mp4 files or folders of WAV files in its test/, or a flat "
        "folder of such songs, all of which are scored",
    )
    option("--output", required=True, metavar="DIR", help="folder of scores, for several methods")
    add_model_options(
        option,
        default=None,
        use="separate with these models, and score the result; no audio is written",
    )
    option("--name", help="name of the method (default: the name of its folder)")
    option(
        "--stems",
        default=",".join(STEMS),
        metavar="A,B,...",
        help="stems of the corpus (default: %(default)s)",
    )
    option(
        "--mapping",
        metavar="STEM=A+B,...",
        help="what the corpus calls a stem, or what it is summed of, such as other=guitar+piano; "
        "others have their own names there",
    )
    option(
        "--oracles",
        metavar="A,B,...",
        help=f"also score these oracles: all, or some of {', '.join(ORACLES)} (default: none)",
    )
    _add_scoring_options(parser.add_argument_group("the scores").add_argument)
    _add_table_options(parser.add_argument_group("the leaderboard").add_argument)
    parser.set_defaults(run=score_estimates, extra="score")


def _add_scoring_options(option: Any) -> None:
    number: dict[str, Any] = {"type": float, "metavar": "S"}
    option("--window-s", **number, default=1.0, help="length of a frame (default: %(default)s)")
    option(
        "--hop-s",
        **number,
        default=1.0,
        help="distance between the starts of two frames (default: %(default)s)",
    )
    option(
        "--nan-policy",
        choices=get_args(NanPolicy),
        default="museval",
        help="in a frame with a silent stem, all stems have no score (museval), or only the silent "
        "one (per_source) (default: %(default)s)",
    )
    option(
        "--accompaniment",
        action="store_true",
        help="also score the sum of all stems except the vocals, as a pair with the vocals; "
        "museval does this where a method has an accompaniment",
    )
    option(
        "--undetermined",
        choices=get_args(Undetermined),
        default="keep",
        help="in frames where rounding decides ISR, SIR and SAR: keep them, as museval does, or "
        "drop them (default: %(default)s)",
    )
    option(
        "--processes",
        type=int,
        metavar="N",
        help="score this many tracks at once (default: as cores and memory allow)",
    )


def _add_table_options(option: Any) -> None:
    averages = get_args(Average)
    option(
        "--frames",
        choices=averages,
        default="median",
        help="average over the frames of a track (default: %(default)s)",
    )
    option(
        "--tracks",
        choices=averages,
        default="median",
        help="average over all tracks (default: %(default)s)",
    )
    option(
        "--baseline",
        metavar="METHOD",
        help="method that all others are tested against (default: the scored one)",
    )
    option(
        "--confidence",
        type=float,
        default=0.95,
        metavar="SHARE",
        help="confidence of the intervals (default: %(default)s)",
    )
    whole: dict[str, Any] = {"type": int, "metavar": "N"}
    option(
        "--resamples",
        **whole,
        default=9999,
        help="number of resamples of the bootstrap (default: %(default)s)",
    )
    option("--seed", **whole, default=1, help="seed of the bootstrap (default: %(default)s)")
    option(
        "--with",
        dest="context",
        choices=("sisec18",),
        help="also list SiSEC 2018's systems and published scores, in a table of their own "
        "(default: only if the songs are MUSDB18's, or excerpts of them)",
    )


def score_estimates(arguments: argparse.Namespace) -> None:
    """`stemforge score`.

    Raises:
        UserError: an option does not fit, or nothing could be scored.
        IncompleteError: some estimates were missing or had a problem.
    """
    from stemforge.eval.leaderboard.board import PAGE, Leaderboard
    from stemforge.eval.leaderboard.tables import Aggregation
    from stemforge.features.corpus.lengths import read_lengths
    from stemforge.pipelines.running.corpora import find_test_tracks
    from stemforge.pipelines.scoring.execution import carry_out
    from stemforge.pipelines.scoring.score_files import read_methods, read_scores, write_tables

    out = storage.absolute(arguments.output)
    _check_numbers(arguments)
    name = _method_name(arguments)
    oracles = _oracles(arguments.oracles)
    baseline = storage.comparable(arguments.baseline or name)
    known = {name, *oracles, *read_methods(out)}
    if baseline not in known:
        raise UserError(f"--baseline {baseline}: must be one of {', '.join(sorted(known))}")
    aggregation = Aggregation(
        frames=arguments.frames,
        tracks=arguments.tracks,
        baseline=baseline,
        confidence=arguments.confidence,
        resamples=arguments.resamples,
        seed=arguments.seed,
    )
    stems = _stems(arguments.stems)
    mapping = split_mapping(arguments.mapping, option="--mapping")
    tracks, lengths = find_test_tracks(arguments.corpus, stems, mapping)
    parts = parts_of(stems, mapping)
    plan = _plan(arguments, name, oracles, tracks, parts=parts, out=out)
    carry_out(plan, label="score", processes=arguments.processes)
    scored = (name, *oracles)
    lengths = lengths or read_lengths(tracks)  # at a URL the tracks are scored first
    found = read_scores(out, read_methods(out))
    found, test_set = _compare(found, scored, tracks, lengths, plan.scoring, parts)
    place = storage.join(arguments.output, PAGE)
    problems = _say_what_is_new(found, scored, plan.scoring, where=place)
    if not any(scores.frames for method, scores in found if method == name):
        raise UserError(f"{name}: nothing could be scored (see above)")
    table = Leaderboard(
        found,
        stems=stems,
        aggregation=aggregation,
        how=plan.scoring,
        test_set=test_set,
        context=arguments.context,
    )
    write_tables(out, found)
    _write_board(table, name, corpus=arguments.corpus, out=out)
    print(table.summary(place))
    if problems:
        count = "1 estimate was" if problems == 1 else f"{problems} estimates were"
        raise IncompleteError(
            f"{count} missing or had a problem, listed at the end of {place}; the others are scored"
        )


def _plan(
    arguments: argparse.Namespace,
    name: str,
    oracles: Sequence[str],
    found_tracks: "Sequence[CorpusTrack]",
    *,
    parts: dict[str, tuple[str, ...]],
    out: str,
) -> "Plan":
    """Finds the estimates of the corpus' tracks, and plans the scores."""
    from stemforge.eval.scoring.estimates import find_estimates
    from stemforge.eval.scoring.scores import Scoring
    from stemforge.features.corpus.track_audio import open_corpus_track, scored_subtype
    from stemforge.pipelines.pretrained.places import resolve
    from stemforge.pipelines.scoring.methods import load_model
    from stemforge.pipelines.scoring.plan import TrackSources, plan_scores
    from stemforge.pipelines.scoring.score_files import list_scores

    stems = [source for source in parts if source != MIXTURE]
    complete = all(track.is_complete for track in found_tracks)
    tracks = [
        TrackSources(
            track.name,
            functools.partial(open_corpus_track, track, scored_subtype(track)),
            tuple(track.places),
            parts,
            complete,
        )
        for track in found_tracks
    ]
    if arguments.model is not None:
        place = resolve(arguments.model, offline=arguments.offline)
        found: Estimates | FromModel = load_model(place, stems=stems, complete=complete)
    else:
        root = storage.absolute(arguments.estimates)
        if root == storage.join(out, name):
            raise UserError(
                f"--output {arguments.output}: the scores of {name} would be mixed with its "
                "estimates: choose another folder"
            )
        names = [track.name for track in tracks]
        found = find_estimates(root, tracks=names, stems=stems, complete=complete)
    return plan_scores(
        name,
        tracks,
        found,
        stems=stems,
        oracles=oracles,
        scoring=Scoring(
            window_s=arguments.window_s,
            hop_s=arguments.hop_s,
            nan_policy=arguments.nan_policy,
            accompaniment=arguments.accompaniment,
            undetermined=arguments.undetermined,
        ),
        out=out,
        there=[place for method, place in list_scores(out) if method == name],
    )


def _compare(
    found: "Scores",
    scored: Sequence[str],
    tracks: "Sequence[CorpusTrack]",
    lengths: "Mapping[str, AudioInfo | None]",
    how: "Scoring",
    parts: dict[str, tuple[str, ...]],
) -> "tuple[Scores, TestSet]":
    """The scores that are of this test set, and what the test set is."""
    from stemforge.eval.leaderboard.comparable import count_frames, keep_comparable
    from stemforge.features.corpus.musdb18 import are_wavs, recognise_test_set, with_stems

    frames = {
        name: count_frames(length.samples or 0, length.sample_rate_hz, how) if length else None
        for name, length in lengths.items()
    }
    for method, scores in found:
        if method in scored and scores.frames:
            # What was scored just now; headers can be a few milliseconds off.
            frames[scores.track] = max(len(metrics["SDR"]) for metrics in scores.frames.values())
    durations_s = {name: length.seconds if length else 0.0 for name, length in lengths.items()}
    test_set = recognise_test_set(durations_s, wavs=are_wavs(t.files.values() for t in tracks))
    stems = [source for source in parts if source != MIXTURE]
    return keep_comparable(found, frames, how, stems=stems), with_stems(test_set, parts)


def _say_what_is_new(found: "Scores", scored: Sequence[str], how: "Scoring", *, where: str) -> int:
    """Prints remarks on the scored methods; returns how many estimates have problems."""
    from stemforge.eval.scoring.scores import LEFT_OUT
    from stemforge.pipelines.scoring.score_files import say_policies, say_remarks

    mine = [(method, scores) for method, scores in found if method in scored]
    # Of the other methods in the folder, only files that are left out are worth a line.
    left_out = [
        (method, scores)
        for method, scores in found
        if method not in scored
        and any(r.reason == "not_scored" or r.reason in LEFT_OUT for r in scores.remarks)
    ]
    say_policies(found, how, label="score")
    return say_remarks([*mine, *left_out], label="score", where=where)


def _write_board(table: "Leaderboard", name: str, *, corpus: str, out: str) -> None:
    """Writes the leaderboard in all its formats."""
    with tempfile.TemporaryDirectory(prefix="stemforge-") as folder:
        introduction = [f"Corpus `{storage.name(corpus)}`."]
        table.write(Path(folder), introduction=introduction, metrics_of=[name])
        for path in sorted(Path(folder).rglob("*.*")):
            place = storage.join(out, path.relative_to(folder).as_posix())
            storage.write_bytes(place, path.read_bytes())


def _check_numbers(arguments: argparse.Namespace) -> None:
    for option, value, low in (
        ("--window-s", arguments.window_s, 0.0),
        ("--hop-s", arguments.hop_s, 0.0),
        ("--resamples", arguments.resamples, 0),
        ("--processes", arguments.processes, 0),
    ):
        if value is not None and not low < value < math.inf:
            raise UserError(f"{option} {value}: must be more than 0")
    if not 0.0 < arguments.confidence < 1.0:
        raise UserError(f"--confidence {arguments.confidence}: must be between 0 and 1")
    if arguments.seed < 0:
        raise UserError(f"--seed {arguments.seed}: must be 0 or more")
    if arguments.offline and arguments.model is None:
        raise UserError("--offline: fetches no model without --model: leave it out")
    if (arguments.estimates is None) == (arguments.model is None):
        what = "neither" if arguments.model is None else "both"
        raise UserError(f"{what} of ESTIMATES and --model given: give exactly one")


def _method_name(arguments: argparse.Namespace) -> str:
    given = arguments.name
    if not given and arguments.model is not None:
        from stemforge.pipelines.pretrained.places import title

        given = title(arguments.model)
    name = storage.comparable(given or storage.name(storage.absolute(arguments.estimates)))
    check_method_name(name)
    if name in ORACLES:
        raise UserError(f"--name {name}: this is the name of an oracle: choose another")
    return name


def _oracles(text: str | None) -> list[str]:
    if text is None:
        return []
    names = list(ORACLES) if text == "all" else split_names(text, option="--oracles")
    for name in names:
        if name not in ORACLES:
            raise UserError(f"--oracles {name}: not an oracle: use all or some of "
                            f"{', '.join(ORACLES)}")  # fmt: skip
    return names


def _stems(text: str) -> list[str]:
    names = split_names(text, option="--stems")
    try:
        check_stem_names(names)
    except UserError as error:
        raise UserError(f"--stems {error}") from None
    if len(names) < 2:
        raise UserError(
            f"--stems {text}: must be all stems of the corpus, two or more: an estimate "
            "of one stem is scored against the sum of the others"
        )
    return names

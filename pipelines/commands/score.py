"""`stemforge score`: anyone's estimates against the true stems."""

import argparse
import dataclasses
import functools
import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from stemforge import storage
from stemforge.errors import IncompleteError, UserError
from stemforge.eval.config import ORACLES, Average, NanPolicy
from stemforge.features.corpus.sources import STEMS
from stemforge.pipelines.console import progress, say
from stemforge.pipelines.options import check_method_name

if TYPE_CHECKING:
    from stemforge.features.corpus.corpora import CorpusTrack
    from stemforge.pipelines.running.scoring import FromModel, Job, Method

# Heavy imports wait until a command runs: help answers within a second.


def add_to(commands: Any) -> None:
    """Adds the command's parser."""
    parser = commands.add_parser(
        "score",
        help="museval's scores of estimates, and a leaderboard",
        description="Scores estimates of a corpus' test tracks by BSSEval v4 as museval "
        "does, and sets all methods that OUTPUT holds side by side. Exit code 1 where an estimate "
        "was missing or not as it should be; all else is scored. A run that was stopped goes on.",
    )
    option = parser.add_argument
    option(
        "estimates",
        nargs="?",
        metavar="ESTIMATES",
        help="folder with TRACK/TARGET.wav or .flac, or test/TRACK/TARGET.wav; or --model",
    )
    option(
        "--corpus",
        required=True,
        metavar="ROOT",
        help="MUSDB folder with .stem.mp4 files or folders of WAV files in its test/",
    )
    option("--output", required=True, metavar="DIR", help="folder of scores, of several methods")
    option(
        "--model",
        type=Path,
        metavar="DIR",
        help="score what these models (directories or .tflite files) estimate, separating as it "
        "goes; nothing else is written",
    )
    option("--name", help="of the method (default: the name of its folder)")
    option(
        "--stems",
        default=",".join(STEMS),
        metavar="A,B,...",
        help="of the corpus (default: %(default)s)",
    )
    option(
        "--oracles",
        metavar="A,B,...",
        help=f"also score these: all, or some of {', '.join(ORACLES)} (default: none)",
    )
    _add_scoring_options(parser.add_argument_group("the scores").add_argument)
    _add_table_options(parser.add_argument_group("the leaderboard").add_argument)
    parser.set_defaults(run=score_estimates, extra="score")


def _add_scoring_options(option: Any) -> None:
    number: dict[str, Any] = {"type": float, "metavar": "S"}
    option("--window-s", **number, default=1.0, help="length of a frame (default: %(default)s)")
    option("--hop-s", **number, default=1.0, help="distance of frames (default: %(default)s)")
    option(
        "--nan-policy",
        choices=get_args(NanPolicy),
        default="museval",
        help="a stem that is silent in a frame blanks the frame for all stems, or for itself "
        "(default: %(default)s)",
    )
    option(
        "--accompaniment",
        action="store_true",
        help="also score the sum of all stems but the vocals, as museval does where a method "
        "comes with an accompaniment: as a pair with the vocals",
    )
    option(
        "--processes", type=int, metavar="N", help="tracks at once (default: by cores and memory)"
    )


def _add_table_options(option: Any) -> None:
    averages = get_args(Average)
    option("--frames", choices=averages, default="median", help="of a track (default: %(default)s)")
    option("--tracks", choices=averages, default="median", help="of all (default: %(default)s)")
    option("--baseline", metavar="METHOD", help="to test all others against (default: the scored)")
    option(
        "--confidence",
        type=float,
        default=0.95,
        metavar="SHARE",
        help="of intervals (default: %(default)s)",
    )
    whole: dict[str, Any] = {"type": int, "metavar": "N"}
    option("--resamples", **whole, default=9999, help="of the bootstrap (default: %(default)s)")
    option("--seed", **whole, default=1, help="of the bootstrap (default: %(default)s)")
    option(
        "--with",
        dest="context",
        choices=("sisec18",),
        help="show SiSEC 2018's systems as context; they join by themselves where the test set is "
        "MUSDB18's",
    )


def score_estimates(arguments: argparse.Namespace) -> None:
    """`stemforge score`.

    Raises:
        UserError: an option does not fit, or nothing could be scored.
        IncompleteError: some estimates were not as they should be.
    """
    from stemforge.eval.leaderboard.board import Leaderboard
    from stemforge.eval.leaderboard.tables import Aggregation
    from stemforge.pipelines.running import scoring

    out = storage.absolute(arguments.output)
    _check_numbers(arguments)
    name = _method_name(arguments)
    oracles = _oracles(arguments.oracles)
    baseline = arguments.baseline or name
    known = {name, *oracles, *scoring.read_methods(out)}
    if baseline not in known:
        raise UserError(f"--baseline {baseline}: none of {', '.join(sorted(known))}")
    aggregation = Aggregation(
        frames=arguments.frames,
        tracks=arguments.tracks,
        baseline=baseline,
        confidence=arguments.confidence,
        resamples=arguments.resamples,
        seed=arguments.seed,
    )
    run = _Run(arguments, name, out)
    run.score(oracles)
    found = scoring.read_scores(out, scoring.read_methods(out))
    scored = (name, *oracles)
    mine = [(method, scores) for method, scores in found if method in scored]
    # Of methods that were there already only what cannot be read is news.
    broken = [
        (method, scores)
        for method, scores in found
        if method not in scored and any(r.reason == "not_scored" for r in scores.remarks)
    ]
    scoring.say_differences(found, run.how, label="score")
    problems = scoring.say_remarks([*mine, *broken], label="score")
    if not any(scores.frames for method, scores in mine if method == name):
        raise UserError(f"{name}: nothing could be scored (see above)")
    table = Leaderboard(
        found, stems=run.stems, aggregation=aggregation, how=run.how, context=arguments.context
    )
    scoring.write_tables(out, found)
    with tempfile.TemporaryDirectory(prefix="stemforge-") as folder:
        corpus = f"Corpus `{storage.name(arguments.corpus)}`."
        page = table.write(Path(folder), introduction=[corpus], metrics_of=[name])
        for path in sorted(Path(folder).rglob("*.*")):
            place = storage.join(out, path.relative_to(folder).as_posix())
            storage.write_bytes(place, path.read_bytes())
    print(page)
    if problems:
        raise IncompleteError(
            f"{problems} estimates were missing or not as they should be, as listed above and at "
            "the end of the page; all else is scored"
        )


class _Run:
    """What is scored, and how."""

    def __init__(self, arguments: argparse.Namespace, name: str, out: str) -> None:
        from stemforge.eval.scoring.scores import Scoring

        self.arguments, self.name, self.out = arguments, name, out
        self.stems = arguments.stems.split(",")
        self.how = Scoring(
            window_s=arguments.window_s,
            hop_s=arguments.hop_s,
            nan_policy=arguments.nan_policy,
            accompaniment=arguments.accompaniment,
        )
        from stemforge.pipelines.running.corpora import find_test_tracks

        self.tracks = find_test_tracks(arguments.corpus, self.stems)

    def score(self, oracles: Sequence[str]) -> None:
        """Scores the method and the oracles, and forgets tracks that are no longer there."""
        from stemforge.features.corpus.sources import ACCOMPANIMENT
        from stemforge.pipelines.running import scoring

        jobs: list[Job]
        if self.arguments.model:
            jobs, seen, targets = [], *self._score_model()
        else:
            jobs, seen, targets = self._folder_jobs()
        # They are compared target by target.
        paired = self.how.accompaniment or ACCOMPANIMENT in targets
        self.how = dataclasses.replace(self.how, accompaniment=paired)
        jobs += [
            self._job(name, track, scoring.Oracle(name))
            for track in self.tracks
            for name in oracles
        ]
        if jobs:
            scoring.score_all(jobs, label="score", processes=self.arguments.processes)
        folder = storage.join(self.out, self.name)
        for place in storage.list_files(folder):
            if storage.name(place).removesuffix(".json") not in seen:
                storage.remove(storage.join(folder, place))

    def _folder_jobs(self) -> tuple[list["Job"], set[str], Sequence[str]]:
        from stemforge.eval.scoring.estimates import find_estimates
        from stemforge.eval.scoring.scores import TrackScores
        from stemforge.pipelines.running import scoring

        found = find_estimates(
            storage.absolute(self.arguments.estimates),
            tracks=[track.name for track in self.tracks],
            stems=self.stems,
        )
        jobs = [
            self._job(
                self.name,
                track,
                scoring.FromFolder(found.files[track.name], found.remarks[track.name]),
            )
            for track in self.tracks
            if found.files[track.name]
        ]
        for track_name in found.remarks.keys() - {job.track for job in jobs}:
            nothing = TrackScores(track_name, {}, remarks=found.remarks[track_name])
            scoring.write_scores(self.out, self.name, nothing, scoring=self.how, inputs="")
        return jobs, set(found.remarks), found.targets

    def _score_model(self) -> tuple[set[str], Sequence[str]]:
        """Track by track: a single separation keeps all cores busy."""
        from stemforge.pipelines.running import scoring

        method = _load_model(self.arguments.model, [*self.stems])
        with progress(len(self.tracks), label="score", unit="track") as bar:
            for track in self.tracks:
                scoring.score(self._job(self.name, track, method), os.cpu_count() or 1)
                bar.set_postfix_str(track.name[:30], refresh=False)
                bar.update()
        return {track.name for track in self.tracks}, method.targets

    def _job(self, name: str, track: "CorpusTrack", method: "Method") -> "Job":
        from stemforge.features.corpus.track_audio import open_corpus_track
        from stemforge.pipelines.running.scoring import Job

        return Job(
            name,
            track.name,
            # As musdb reads it.
            functools.partial(open_corpus_track, track, "PCM_16"),
            tuple(dict.fromkeys(track.files.values())),
            method,
            self.how,
            self.out,
        )


def _load_model(folder: Path, stems: list[str]) -> "FromModel":
    from stemforge.eval.separation.separator import (
        INSTRUMENTAL,
        Separator,
        find_models,
        read_interface,
    )
    from stemforge.features.corpus.sources import ACCOMPANIMENT, VOCALS
    from stemforge.pipelines.running.scoring import FromModel
    from stemforge.train.model_files import model_files

    models = find_models(folder)
    known = [stem for model in models for stem in read_interface(model).stems]

    strange = [stem for stem in known if stem not in (*stems, ACCOMPANIMENT)]
    for stem in strange:
        say(f"score: {stem}: no stem of the corpus (--stems): not scored")
    if len(strange) == len(known):
        raise UserError(f"--model {folder}: it has none of the corpus' stems")
    # A model of the vocals alone: the rest of the mixture is what they are scored against.
    alone = known == [VOCALS]
    separator = Separator.load(models, instrumental=alone)
    files = [str(file) for model in models for file in model_files(model)]
    return FromModel(separator, tuple(files), {INSTRUMENTAL: ACCOMPANIMENT}, frozenset(strange))


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
    if (arguments.estimates is None) == (arguments.model is None):
        raise UserError("either ESTIMATES or --model: one of them, not both")


def _method_name(arguments: argparse.Namespace) -> str:
    place = str(arguments.model) if arguments.model else arguments.estimates
    name: str = arguments.name or storage.name(storage.absolute(place))
    check_method_name(name)
    if name in ORACLES:
        raise UserError(f"--name {name}: that is an oracle: choose another")
    return name


def _oracles(text: str | None) -> list[str]:
    names = list(ORACLES) if text == "all" else text.split(",") if text else []
    for name in names:
        if name not in ORACLES:
            raise UserError(f"--oracles {name}: none of all, {', '.join(ORACLES)}")
    return names

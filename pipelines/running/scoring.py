"""Scoring tracks, side by side and resumable: what stage evaluate and `stemforge score` share.

A folder of scores holds, for each method, METHOD/test/TRACK.json (museval's) and, for tracks
of which nothing could be scored, METHOD/unscored/TRACK.json, which say why. All tables are made
from these files.
"""

import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from stemforge import storage
from stemforge.errors import UserError, needs
from stemforge.eval.scoring import oracles, scores
from stemforge.eval.scoring.estimates import read_estimates
from stemforge.eval.scoring.scores import MethodScores, Remark, Scoring, TrackScores
from stemforge.features.audio import files as audio
from stemforge.features.corpus.sources import MIXTURE
from stemforge.features.signal.stft import Waveform
from stemforge.pipelines.console import count_of, progress, say, watched
from stemforge.pipelines.running.parallel import BEAM_ARGS, PROCESSES, map_tracks

if TYPE_CHECKING:
    from stemforge.eval.separation.separator import Separator

SCORED, UNSCORED = "test", "unscored"
# What a process takes with a track of five minutes: 1.9 GB, or with an oracle 6.3.
PROCESS_BYTES = {"estimates": 2 * 2**30, "oracle": 7 * 2**30}
WATCH_S = 2.0
Waveforms = dict[str, Waveform]
Scores = list[MethodScores]


@dataclass(frozen=True)
class TrackTruth:
    """What a track's estimates are compared with.

    Attributes:
        mixture: float32 [samples, 2].
        stems: true stems, the same shape.
        sample_rate_hz: of both.
    """

    mixture: Waveform
    stems: Waveforms
    sample_rate_hz: int


class Method(Protocol):
    """Gives the estimates that are scored."""

    @property
    def key(self) -> str:
        """What they depend on beside the truth and `files`."""
        ...

    @property
    def files(self) -> Sequence[str]:
        """Places whose contents they depend on."""
        ...

    def estimate(self, truth: TrackTruth) -> tuple[Waveforms, list[Remark]]:
        """Estimates, float32 [samples, 2] by target, and what is to be said of them."""
        ...


@dataclass(frozen=True)
class FromFolder:
    """Estimates that lie in files.

    Attributes:
        places: of each target.
        remarks: known before they are read.
    """

    places: Mapping[str, str]
    remarks: tuple[Remark, ...] = ()

    @property
    def key(self) -> str:
        """See Method; not where the files lie."""
        return repr(("folder", [*self.places], self.remarks))

    @property
    def files(self) -> Sequence[str]:
        """The estimates."""
        return [*self.places.values()]

    def estimate(self, truth: TrackTruth) -> tuple[Waveforms, list[Remark]]:
        """See Method."""
        with ExitStack() as stack:
            files = {t: stack.enter_context(storage.local_copy(p)) for t, p in self.places.items()}
            estimates, remarks = read_estimates(
                files, samples=len(truth.mixture), sample_rate_hz=truth.sample_rate_hz
            )
        return estimates, [*self.remarks, *remarks]


@dataclass(frozen=True)
class Oracle:
    """One of eval.scoring.oracles.

    Attributes:
        name: its name there.
    """

    name: str

    @property
    def key(self) -> str:
        """See Method."""
        return repr(("oracle", self.name))

    @property
    def files(self) -> Sequence[str]:
        """None: it is made from the truth."""
        return ()

    def estimate(self, truth: TrackTruth) -> tuple[Waveforms, list[Remark]]:
        """See Method."""
        return oracles.METHODS[self.name](truth.mixture, truth.stems), []


@dataclass(frozen=True)
class FromModel:
    """Estimates that are made for it and not kept.

    Attributes:
        separator: eval.separation.Separator, which cannot be sent to other processes.
        files: of the models.
        names: of outputs that are targets of another name.
        left_out: outputs that are no targets.
    """

    separator: "Separator"
    files: tuple[str, ...]
    names: Mapping[str, str]
    left_out: frozenset[str]

    @property
    def key(self) -> str:
        """See Method."""
        return repr(("model", self.targets))

    @property
    def targets(self) -> Sequence[str]:
        """What is estimated."""
        return [self.names.get(s, s) for s in self.separator.stems if s not in self.left_out]

    def estimate(self, truth: TrackTruth) -> tuple[Waveforms, list[Remark]]:
        """See Method."""
        found = self.separator.separate(truth.mixture, sample_rate_hz=truth.sample_rate_hz)
        waveforms = [waveform for stem, waveform in found.items() if stem not in self.left_out]
        return dict(zip(self.targets, waveforms, strict=True)), []


@dataclass(frozen=True)
class Job:
    """One track to score by one method.

    Attributes:
        method: its name in the tables.
        track: its name.
        open_sources: gives local files of the mixture and the stems for a while.
        files: places whose contents the sources depend on.
        estimates: the method at work.
        scoring: how.
        out: folder of scores, local or a URL.
    """

    method: str
    track: str
    open_sources: Callable[[], AbstractContextManager[dict[str, Path]]]
    files: tuple[str, ...]
    estimates: Method
    scoring: Scoring
    out: str


def scores_place(out: str, method: str, kind: str, track: str) -> str:
    """Where a track's JSON lies in a folder of scores; kind is SCORED or UNSCORED."""
    return storage.join(out, method, kind, f"{track}.json")


def score(job: Job, threads: int) -> None:
    """Scores a track, unless that was done from the same inputs in the same way.

    Args:
        job: what to do.
        threads: to use.
    """
    inputs = _identity(job)
    # What could not be scored is tried again: its cause may be gone, such as a full disk.
    place = scores_place(job.out, job.method, SCORED, job.track)
    if storage.size(place) and scores.read_inputs(_text(place)) == inputs:
        return
    try:
        truth = _read_truth(job)
    except (UserError, OSError) as error:
        found = TrackScores(job.track, {}, remarks=(Remark("", "not_scored", str(error)),))
    else:
        estimates, remarks = job.estimates.estimate(truth)
        found = scores.score_track(
            job.track,
            truth.stems,
            estimates,
            sample_rate_hz=truth.sample_rate_hz,
            scoring=job.scoring,
            remarks=remarks,
            workers=threads,
        )
    write_scores(job.out, job.method, found, scoring=job.scoring, inputs=inputs)


def write_scores(
    out: str, method: str, found: TrackScores, *, scoring: Scoring, inputs: str
) -> None:
    """Writes a track's JSON into a folder of scores, and removes what it replaces."""
    text = scores.to_json(found, scoring=scoring, inputs=inputs)
    kinds = (SCORED, UNSCORED) if found.frames else (UNSCORED, SCORED)
    new, old = (scores_place(out, method, kind, found.track) for kind in kinds)
    storage.write_bytes(new, text.encode())
    storage.remove(old)


def _identity(job: Job) -> str:
    digest = hashlib.sha256(repr((job.estimates.key, job.scoring)).encode())
    for place in (*job.files, *job.estimates.files):
        digest.update(_checksum(place).encode())
    return digest.hexdigest()


def _checksum(place: str) -> str:
    if storage.size(place) is None:
        return "missing"
    with storage.local_copy(place) as path:
        return storage.file_sha256(path)


def _read_truth(job: Job) -> TrackTruth:
    with job.open_sources() as files:
        missing = [name for name, path in files.items() if not path.is_file()]
        if missing:
            raise UserError(f"the corpus has no {missing[0]} of it")
        rate_hz = audio.file_info(files[MIXTURE]).sample_rate_hz
        sources = {name: audio.as_stereo(audio.read_audio(path)) for name, path in files.items()}
    mixture = sources.pop(MIXTURE)
    for name, waveform in sources.items():
        if len(waveform) != len(mixture):
            raise UserError(f"{name} has {len(waveform)} samples, the mixture {len(mixture)}")
    return TrackTruth(mixture, sources, rate_hz)


def score_all(jobs: Sequence[Job], *, label: str, processes: int | None = None) -> None:
    """Scores tracks side by side: in processes of this machine, or as a Beam job.

    Args:
        jobs: what to do.
        label: of the progress bar.
        processes: how many; by default one a core, or what STEMFORGE_PROCESSES says, as far as
            the memory goes. Beam is used where STEMFORGE_BEAM_ARGS says how, and then decides
            itself.
    """
    if os.environ.get(BEAM_ARGS):
        _score_on_beam(jobs, label=label)
        return
    cores = os.cpu_count() or 1
    most = count_of(PROCESSES) or cores
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    oracle = any(isinstance(job.estimates, Oracle) for job in jobs)
    needed = PROCESS_BYTES["oracle" if oracle else "estimates"]
    count = processes or max(1, min(most, memory // needed, len(jobs)))
    threads = max(1, cores // count)
    # More threads of NumPy's in each process would only compete; read when they start.
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(threads)
    map_tracks(
        score,
        [(f"{job.method} {job.track}", (job, threads)) for job in jobs],
        label=label,
        processes=count,
    )


def _score_on_beam(jobs: Sequence[Job], *, label: str) -> None:
    with needs("features", what=BEAM_ARGS):
        import apache_beam as beam

        from stemforge.pipelines.running.beam import pipeline_options, run_pipeline

    pipeline = beam.Pipeline(options=pipeline_options([]))
    scored = pipeline | beam.Create(jobs) | beam.Reshuffle()
    scored | "ScoreTracks" >> beam.Map(score, threads=1)
    with show_done(jobs, label=label):
        run_pipeline(pipeline, watch=lambda counters: None)


@contextmanager
def show_done(jobs: Sequence[Job], *, label: str) -> Iterator[None]:
    """A progress bar over the JSON files that are there, whoever writes them."""
    wanted = {(job.method, f"{job.track}.json") for job in jobs}
    with progress(len(jobs), label=label, unit="track") as bar:

        def look() -> None:
            names = [name.split("/") for name in storage.list_files(jobs[0].out)]
            there = {(n[0], n[2]) for n in names if len(n) == 3 and n[1] in (SCORED, UNSCORED)}
            bar.update(len(there & wanted) - bar.n)

        with watched(look, every_s=WATCH_S):
            yield


def read_methods(folder: str) -> list[str]:
    """Names of the methods that a folder of scores holds, sorted; none where it is missing."""
    if not storage.is_folder(folder):
        return []
    names = [name.split("/") for name in storage.list_files(folder)]
    return sorted({n[0] for n in names if len(n) == 3 and n[1] in (SCORED, UNSCORED)})


def read_scores(folder: str, methods: Iterable[str]) -> Scores:
    """All that is in a folder of scores, by method and track.

    Args:
        folder: of scores.
        methods: wanted ones.

    Returns:
        Method and scores; a JSON that is broken is a remark of its track.
    """
    wanted = set(methods)
    found = []
    for name in storage.list_files(folder):
        parts = name.split("/")
        if len(parts) != 3 or parts[0] not in wanted or parts[1] not in (SCORED, UNSCORED):
            continue
        method, _, file = parts
        if not file.endswith(".json") or file.startswith("."):
            continue
        track = file.removesuffix(".json")
        try:
            track_scores = scores.from_json(track, _text(storage.join(folder, name)))
        except ValueError as error:
            remark = Remark("", "not_scored", f"{name}: {error}")
            track_scores = TrackScores(track, {}, remarks=(remark,))
        found.append((method, track_scores))
    return found


def write_tables(out: str, found: Scores) -> None:
    """Writes scores.parquet (frames) and whole.parquet (whole tracks) into a folder of scores."""
    for name, table in (
        ("scores.parquet", scores.frame_table(found)),
        ("whole.parquet", scores.whole_table(found)),
    ):
        buffer = io.BytesIO()
        table.to_parquet(buffer, index=False)
        storage.write_bytes(storage.join(out, name), buffer.getvalue())


def say_differences(found: Scores, how: Scoring, *, label: str) -> None:
    """Prints which methods' frames are not those that are scored now."""
    for name in ("window_s", "hop_s", "nan_policy"):
        wanted = getattr(how, name)
        other = {(method, s.scoring[name]) for method, s in found if name in s.scoring}
        for method, value in sorted(other):
            if value != wanted:
                say(f"{label}: {method}: scored with {name}={value}, not {wanted}: do not compare")


def say_remarks(found: Scores, *, label: str) -> int:
    """Prints what is to be said of tracks and targets.

    Returns:
        How many remarks are about something that an estimate's maker can mend.
    """
    count = 0
    for method, track_scores in found:
        for remark in track_scores.remarks:
            what = f"{track_scores.track}: {remark.target}".removesuffix(": ")
            say(f"{label}: {method}: {what}: {remark.reason}: {remark.detail}")
            count += remark.reason not in scores.HARMLESS
    return count


def _text(place: str) -> str:
    return storage.read_bytes(place).decode("utf-8", errors="replace")

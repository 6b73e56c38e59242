"""Carries out a plan: track by track, in processes of this machine, or on Beam."""

import hashlib
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from stemforge import storage
from stemforge.errors import UserError, needs
from stemforge.eval.scoring import scores
from stemforge.eval.scoring.scores import Remark, TrackScores
from stemforge.features.audio import files as audio
from stemforge.features.corpus.sources import MIXTURE
from stemforge.pipelines.console import count_of, progress, watched
from stemforge.pipelines.running.parallel import BEAM_ARGS, PROCESSES, map_tracks
from stemforge.pipelines.scoring.methods import TrackTruth
from stemforge.pipelines.scoring.plan import Job, Plan, TrackSources
from stemforge.pipelines.scoring.score_files import (
    list_scores,
    read_inputs,
    track_of,
    write_scores,
)

# A process needs 1.6 GB for a stereo track of five minutes with four stems and the accompaniment.
PROCESS_BYTES = 2 * 2**30
WATCH_S = 2.0


def carry_out(plan: Plan, *, label: str, processes: int | None = None) -> None:
    """Carries out a plan; tracks that were scored before from the same inputs are skipped.

    Args:
        plan: what to score.
        label: of the progress bars.
        processes: see score_all.
    """
    for nothing in plan.unscored:
        write_scores(plan.out, plan.method, nothing, scoring=plan.scoring, inputs="")
    if plan.in_turn:
        _score_in_turn(plan.in_turn, label=label)
    if plan.side_by_side:
        score_all(plan.side_by_side, label=label, processes=processes)
    for place in plan.stale:
        storage.remove(place)


def score(job: Job, threads: int) -> None:
    """Scores a track, unless it was scored before from the same inputs in the same way.

    Args:
        job: what to score.
        threads: number of threads.
    """
    inputs = _identity(job)
    if read_inputs(job.out, job.method, job.track.name) == inputs:
        return
    try:
        truth = _read_truth(job.track)
    except (UserError, OSError) as error:
        found = TrackScores(job.track.name, {}, remarks=(Remark("", "not_scored", str(error)),))
    else:
        stems, rate_hz = truth.stems, truth.sample_rate_hz
        estimates, remarks = job.estimates.estimate(truth)
        mixture = None if job.track.is_complete else truth.mixture
        del truth  # frees the mixture where it is not needed: 100 MB for five minutes
        found = scores.score_track(
            job.track.name,
            stems,
            estimates,
            sample_rate_hz=rate_hz,
            scoring=job.scoring,
            mixture=mixture,
            remarks=remarks,
            workers=threads,
        )
    write_scores(job.out, job.method, found, scoring=job.scoring, inputs=inputs)


def _identity(job: Job) -> str:
    digest = hashlib.sha256(repr((job.estimates.key, job.scoring)).encode())
    # Files do not say it: streams of one file may be any stems.
    parts = [(stem, *names) for stem, names in job.track.parts.items()]
    digest.update(repr((parts, job.track.is_complete)).encode())
    for place in (*job.track.files, *job.estimates.files):
        digest.update(_checksum(place).encode())
    return digest.hexdigest()


def _checksum(place: str) -> str:
    if storage.size(place) is None:
        return "missing"
    with storage.local_copy(place) as path:
        return storage.file_sha256(path)


def _read_truth(track: TrackSources) -> TrackTruth:
    with track.open() as files:
        missing = [name for name, path in files.items() if not path.is_file()]
        if missing:
            raise UserError(f"the corpus has no {missing[0]} of this track")
        infos = {name: audio.file_info(path) for name, path in files.items()}  # refuses cut ones
        rate_hz = infos[MIXTURE].sample_rate_hz
        sources = {name: audio.as_stereo(audio.read_audio(path)) for name, path in files.items()}
    mixture = sources.pop(MIXTURE)
    for name, waveform in sources.items():
        if len(waveform) != len(mixture):
            raise UserError(f"{name} has {len(waveform)} samples, the mixture {len(mixture)}")
    return TrackTruth(mixture, sources, rate_hz)


def _score_in_turn(jobs: Sequence[Job], *, label: str) -> None:
    """Scores one track after another in this process, which uses all cores."""
    with progress(len(jobs), label=label, unit="track") as bar:
        for job in jobs:
            score(job, os.cpu_count() or 1)
            bar.set_postfix_str(job.track.name[:30], refresh=False)
            bar.update()


def score_all(jobs: Sequence[Job], *, label: str, processes: int | None = None) -> None:
    """Scores tracks in parallel: in processes of this machine, or as a Beam job.

    Args:
        jobs: what to score.
        label: of the progress bar.
        processes: how many; default: what STEMFORGE_PROCESSES says, else one per core, but no
            more than the memory allows. If STEMFORGE_BEAM_ARGS is set, Beam runs the jobs, and
            its flags decide instead.
    """
    if os.environ.get(BEAM_ARGS):
        _score_on_beam(jobs, label=label)
        return
    cores = os.cpu_count() or 1
    most = count_of(PROCESSES) or cores
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    count = processes or max(1, min(most, memory // PROCESS_BYTES, len(jobs)))
    threads = max(1, cores // count)
    # More NumPy threads per process would only compete. A new process reads these variables.
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(threads)
    map_tracks(
        score,
        [(f"{job.method} {job.track.name}", (job, threads)) for job in jobs],
        label=label,
        processes=count,
    )


def _score_on_beam(jobs: Sequence[Job], *, label: str) -> None:
    with needs("features", what=BEAM_ARGS):
        import apache_beam as beam

        from stemforge.pipelines.running.beam import pipeline_options, run_pipeline
        from stemforge.pipelines.running.feature_workers import are_here, refuse_local_places

    options = pipeline_options([])
    folders = sorted({folder for job in jobs for folder in _folders(job)})
    refuse_local_places(options, dict.fromkeys(folders, "use gs://... places"))
    for folder in {job.out for job in jobs if storage.is_local(job.out)}:
        Path(folder).mkdir(parents=True, exist_ok=True)  # workers look for it
    pipeline = beam.Pipeline(options=options)
    scored = pipeline | beam.Create(jobs) | beam.Reshuffle()
    work = score if are_here(options) else score_elsewhere
    scored | "ScoreTracks" >> beam.Map(work, threads=1)
    with show_done(jobs, label=label):
        run_pipeline(pipeline, watch=lambda counters: None)
    check_done(jobs)


def score_elsewhere(job: Job, threads: int) -> None:
    """`score` in a worker that may be on another machine: it must see the folders.

    Raises:
        UserError: it does not.
    """
    for folder in filter(storage.is_local, _folders(job)):
        if not Path(folder).is_dir():
            raise UserError(
                f"worker {socket.gethostname()}: {folder}: no such folder here: use places that "
                f"all workers see, such as gs://..., or unset {BEAM_ARGS}"
            )
    score(job, threads)


def check_done(jobs: Sequence[Job]) -> None:
    """Checks that each job has a file of scores.

    Raises:
        UserError: one has none: a worker wrote it on a disk of its own.
    """
    found = {out: _scored(out) for out in {job.out for job in jobs}}
    for job in jobs:
        if (job.method, storage.comparable(job.track.name)) not in found[job.out]:
            raise UserError(
                f"{job.out}: the workers left no scores of {job.method} for {job.track.name} here: "
                f"use places that all workers see, such as gs://..., or unset {BEAM_ARGS}"
            )


def _folders(job: Job) -> list[str]:
    files = (*job.track.files, *job.estimates.files)
    return [job.out, *(storage.parent(place) for place in files)]


def _scored(out: str) -> set[tuple[str, str]]:
    return {(method, track_of(name)) for method, name in list_scores(out)}


@contextmanager
def show_done(jobs: Sequence[Job], *, label: str) -> Iterator[None]:
    """Shows a progress bar that counts the JSON files, whichever process writes them."""
    wanted = {(job.method, job.track.name) for job in jobs}
    with progress(len(jobs), label=label, unit="track") as bar:

        def look() -> None:
            bar.update(len(_scored(jobs[0].out) & wanted) - bar.n)

        with watched(look, every_s=WATCH_S):
            yield

"""The job that makes copies of training songs in another pitch and tempo, on Beam."""

import dataclasses
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stemforge import storage
from stemforge.errors import UserError, needs
from stemforge.features.audio import ffmpeg
from stemforge.features.audio.files import BYTES_PER_SAMPLE, file_info
from stemforge.features.audio.formats import Subtype
from stemforge.features.corpus.copies import Copy, plan_copies, write_copy
from stemforge.features.corpus.manifest import Manifest, Track, read_manifest, write_manifest
from stemforge.features.corpus.track_audio import DecodedAudio
from stemforge.features.shards.validity import Thresholds
from stemforge.pipelines.console import progress, say, watched
from stemforge.pipelines.params import Params, read_params
from stemforge.pipelines.paths import COPIES, COPY_TRACKS, TRACKS
from stemforge.pipelines.running.manifests import refuse_remote_copies
from stemforge.pipelines.running.parallel import BEAM_ARGS
from stemforge.pipelines.running.work import check_free_space, work_folder
from stemforge.pipelines.running.workspaces import link_published, publish_all
from stemforge.unfinished import finishing

WATCH_S = 0.5
STAGE = "copies"


@dataclass(frozen=True)
class CopyJob:
    """One copy to make.

    Attributes:
        copy: of which song, and how.
        audio: where the songs are.
        out: folder of all copies.
        subtype: of their WAV files.
        done: file that gets the copy's row of the manifest when the copy is complete.
    """

    copy: Copy
    audio: DecodedAudio
    out: Path
    subtype: Subtype
    done: Path


def make_copies() -> None:
    """Makes every copy that is not made yet, then writes their manifest.

    Raises:
        UserError: the songs are not on this machine, or one cannot be read.
    """
    params = read_params()
    manifest = read_manifest(TRACKS)
    thresholds = Thresholds(**params.features.validity.model_dump())
    config = params.copies.read()
    refuse_remote_copies(manifest, config.per_song)
    copies, bad = plan_copies(manifest.split("train"), config, thresholds)
    identity = (
        *(params.copies.model_dump(), params.decode.subtype, dataclasses.asdict(thresholds)),
        *(storage.file_sha256(TRACKS), ffmpeg.version() if copies else ""),
    )
    with work_folder(STAGE, *identity) as work:
        if link_published(work, (COPIES,)):
            return
        if bad and config.per_song:
            say(
                f"{STAGE}: {len(bad)} songs get none, since features.validity rejects them, or "
                f"samples are not finite: {', '.join(bad)}"
            )
        out = (work / COPIES.name).resolve()
        out.mkdir(exist_ok=True)
        made = run_copies(_plan(copies, manifest, params, work, out)) if copies else []
        write_manifest(out / COPY_TRACKS.name, Manifest(COPIES, manifest.stems, tuple(made)))
        publish_all(work, (COPIES,))


def _plan(
    copies: Sequence[Copy], manifest: Manifest, params: Params, work: Path, out: Path
) -> list[CopyJob]:
    """The jobs, if there is space for the files that are still to be made."""
    audio = DecodedAudio(storage.absolute(manifest.audio_root.as_posix()))
    subtype = params.decode.subtype
    rows = (work / "rows").resolve()
    rows.mkdir(exist_ok=True)
    jobs = [
        CopyJob(copy, audio, out, subtype, rows / f"{number}.json")
        for number, copy in enumerate(copies)
    ]
    values = [_values(job) for job in jobs if not job.done.exists()]
    scratch = sum(sorted(values)[-(os.cpu_count() or 1) :])  # of as many copies as are made at once
    needed = sum(values) * BYTES_PER_SAMPLE[subtype] + scratch * BYTES_PER_SAMPLE["FLOAT"]
    check_free_space(COPIES, int(needed), what="making copies")
    return jobs


def _values(job: CopyJob) -> float:
    """Samples times channels of all files of a copy."""
    track = job.copy.track
    with job.audio.open(track) as files:
        return track.samples / job.copy.tempo * sum(file_info(p).channels for p in files.values())


def make_copy(job: CopyJob) -> None:
    """Makes a copy unless an earlier run did."""
    if job.done.exists():
        return
    with job.audio.open(job.copy.track) as files:
        track = write_copy(job.copy, files, job.out, subtype=job.subtype)
    with finishing(job.done) as temporary:
        temporary.write_text(json.dumps(dataclasses.asdict(track)), encoding="utf-8")


def run_copies(jobs: Sequence[CopyJob]) -> list[Track]:
    """Makes all copies on Beam, with a progress bar.

    Returns:
        Their rows of the manifest, in the order of the jobs.

    Raises:
        UserError: STEMFORGE_BEAM_ARGS names a runner on other machines, or a copy failed.
    """
    with needs("repro", what=f"stage {STAGE}"):
        import apache_beam as beam

        from stemforge.pipelines.running.beam import pipeline_options, run_pipeline
        from stemforge.pipelines.running.feature_workers import are_here

    options = pipeline_options([], audio_s=sum(job.copy.track.duration_s for job in jobs))
    if not are_here(options):
        raise UserError(
            f"{BEAM_ARGS}: workers on other machines are not supported by stage {STAGE}; "
            "supported: FnApiRunner, whose processes are on this machine: unset it for this stage"
        )
    pipeline = beam.Pipeline(options=options)
    spread = pipeline | "Copies" >> beam.Create(jobs) | "Spread" >> beam.Reshuffle()
    _ = spread | "Make" >> beam.Map(make_copy)
    say(f"{STAGE}: {len(jobs)} copies of songs")
    with progress(len(jobs), label=STAGE, unit="copy") as bar:

        def look() -> None:
            bar.update(sum(job.done.exists() for job in jobs) - bar.n)

        with watched(look, every_s=WATCH_S):
            run_pipeline(pipeline, watch=lambda counters: None)
    return [Track.from_row(json.loads(job.done.read_text(encoding="utf-8"))) for job in jobs]

"""The feature job: planned, run on Beam, and summed up in a table of tracks and blocks."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam

from stemforge import storage
from stemforge.errors import JobGoesOn, UserError
from stemforge.features.corpus.corpora import CorpusTrack
from stemforge.features.corpus.manifest import Reject, Track, read_rejects
from stemforge.features.corpus.track_audio import (
    CorpusAudio,
    DecodedAudio,
    MeasuredAudio,
    TrackAudio,
)
from stemforge.features.shards.beam import (
    FEATURE_SPLITS,
    MeasureTrack,
    Progress,
    WriteFeatures,
    plan_shards,
)
from stemforge.features.shards.blocks import BySize
from stemforge.features.shards.examples import FRAME_OVERHEAD_BYTES
from stemforge.features.shards.records import INFO, TOKEN
from stemforge.features.shards.validity import Thresholds
from stemforge.features.shards.workers import Launcher, launching
from stemforge.features.shards.writing import FeatureConfig
from stemforge.features.signal.framing import Framing
from stemforge.pipelines.console import progress, say, watched
from stemforge.pipelines.params import Corpus, Features, Params, read_params
from stemforge.pipelines.paths import COPY_TRACKS, FEATURES, TRACK_REJECTS, TRACKS
from stemforge.pipelines.running.beam import pipeline_options, run_pipeline
from stemforge.pipelines.running.corpora import describe_found, known_lengths, list_corpus
from stemforge.pipelines.running.feature_output import claim_output, new_features, record_features
from stemforge.pipelines.running.feature_places import PLACE, features_place
from stemforge.pipelines.running.feature_workers import are_here, check_ffmpeg, refuse_local_places
from stemforge.pipelines.running.manifests import read_manifests
from stemforge.pipelines.running.named_corpora import resolve_name
from stemforge.pipelines.running.work import check_free_space, work_folder

WATCH_S = 0.5


@dataclass(frozen=True)
class Job:
    """Everything the pipeline is built from.

    Attributes:
        measured: the manifests' tracks and rejects, or None where the job measures.
        corpus: the corpus' tracks where the job decodes, else empty.
        root: of that corpus.
        audio: where tracks' audio is.
        config: what features are.
        shards: per split, or the rule for it.
        copies: folder of the songs' copies; empty where there are none.
    """

    measured: tuple[Track | Reject, ...] | None
    corpus: tuple[CorpusTrack, ...]
    root: str
    audio: TrackAudio
    config: FeatureConfig
    shards: int | BySize
    copies: str = ""

    @property
    def decodes(self) -> bool:
        """Whether workers decode the corpus' files."""
        if isinstance(self.audio, MeasuredAudio):
            return any(isinstance(track, Track) and track.ffmpeg for track in self.measured or ())
        return any(track.is_decoded for track in self.corpus)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The folders that workers read."""
        return (self.root, self.copies) if self.copies else (self.root,)

    def build(self, options: Any, launcher: Launcher, notes: Progress) -> beam.Pipeline:
        """Wires the pipeline; running it writes the launcher's output."""
        pipeline = beam.Pipeline(options=options)
        if self.measured is not None:
            tracks = pipeline | "Tracks" >> beam.Create(self.measured)
        else:
            assert isinstance(self.audio, CorpusAudio)
            tracks = (
                pipeline
                | "Corpus" >> beam.Create(self.corpus)
                | "Spread tracks" >> beam.Reshuffle()
                | "Measure" >> beam.ParDo(MeasureTrack(self.root, self.audio.subtype, launcher))
            )
        _ = tracks | "Features" >> WriteFeatures(
            self.audio, self.config, launcher, shards=self.shards, progress=notes
        )
        return pipeline


def compute_features(
    *,
    corpus: str | None = None,
    audio: str | None = None,
    output: str | None = None,
    beam_flags: Sequence[str] = (),
) -> None:
    """Plans the job, runs it on Beam, prints a table of kept and rejected tracks and blocks.

    Args:
        corpus: root of a corpus that the job decodes itself; None: what stage decode wrote.
        audio: where a copy of the manifest's audio lies; None: where the manifest says.
        output: features folder to write, local or a URL; None: where STEMFORGE_FEATURES says, or
            data/features. Of a place that STEMFORGE_FEATURES names, data/features/ gets info.json
            and rejects.parquet.
        beam_flags: Beam's.
    """
    params = read_params()
    place = output or features_place()
    is_recorded = output is None and place != str(FEATURES)
    if corpus is None:
        job = decoded_job(params, audio_root=audio)
        seconds = sum(t.duration_s for t in job.measured or () if isinstance(t, Track))
    else:
        job = corpus_job(params, corpus)
        seconds = float("inf")  # unknown before it is measured; not small
    options = pipeline_options(beam_flags, audio_s=seconds)
    read = (
        "use --corpus gs://..." if corpus or audio else "set corpus.root to gs://... (params.yaml)"
    )
    written = "use --output gs://..." if output else f"set {PLACE}=gs://..."
    if job.decodes:
        check_ffmpeg(options)
    places = {job.root: read, place: written}
    if job.copies:
        places[job.copies] = "set copies.per_song=0 (params.yaml)"
    refuse_local_places(options, places)
    known = [storage.file_sha256(path) for path in manifests_of(job)]
    identity = (params.features.model_dump(), [corpus, audio, place, known])
    with work_folder("features", *identity) as work:
        if output is not None or is_recorded:
            option = PLACE if is_recorded else "--output"
            label = f"{option}{'=' if is_recorded else ' '}{place}"
            claim_output(place, label=label, is_shared=is_recorded)
        notes = work / "progress"
        notes.unlink(missing_ok=True)
        if storage.is_local(place):
            check_free_space(Path(place), feature_bytes(job), what="computing features")
            with new_features(Path(place), work) as out:
                run(job, options, str(out.resolve()), notes)
        else:
            run(job, options, place, notes)
        if is_recorded:
            record_features(place, work)


def manifests_of(job: Job) -> list[Path]:
    """The files that name the songs of a job on decoded songs; none where it decodes itself."""
    named = [] if job.measured is None else [TRACKS]
    return [*named, COPY_TRACKS] if job.copies else named


def decoded_job(params: Params, *, audio_root: str | None) -> Job:
    """The job on what stages decode and copies wrote; its plan is tried before anything starts."""
    features = params.features
    manifest, copies = read_manifests(params)
    copied = copies.tracks if copies else ()
    config = feature_config(features, manifest.stems)
    shards = features.shards or BySize(config.frame_bytes)
    measured: tuple[Track | Reject, ...] = (
        *manifest.tracks, *copied, *read_rejects(TRACK_REJECTS)
    )  # fmt: skip
    plan_shards(measured, config.thresholds, config.framing, shards=shards)
    root = storage.absolute(audio_root or manifest.corpus or manifest.audio_root.as_posix())
    beside = storage.absolute(copies.audio_root.as_posix()) if copies else ""
    audio = MeasuredAudio(root) if manifest.corpus else DecodedAudio(root, beside)
    return Job(measured, (), root, audio, config, shards, beside)


def corpus_job(params: Params, root: str) -> Job:
    """The job that decodes a corpus itself."""
    if params.copies.per_song:
        raise UserError(
            f"--corpus with copies.per_song={params.copies.per_song}: the job decodes the corpus "
            "itself, and copies are made of decoded songs: set copies.per_song=0, or leave out "
            "--corpus"
        )
    place = storage.absolute(resolve_name(root, label=f"--corpus {root}"))
    corpus: Corpus = params.corpus.model_copy(update={"root": place})
    found = list_corpus(corpus)
    say(describe_found(place, found, known_lengths(place, found)))
    tracks = [track for track in found if track.split in FEATURE_SPLITS]
    audio = CorpusAudio({track.name: track for track in tracks}, params.decode.subtype)
    config = feature_config(params.features, tuple(corpus.stems))
    shards = params.features.shards or BySize(config.frame_bytes)
    return Job(None, tuple(tracks), corpus.root, audio, config, shards)


def feature_config(features: Features, stems: tuple[str, ...]) -> FeatureConfig:
    """The features section as the job's own configuration."""
    return FeatureConfig(
        stems=stems,
        framing=Framing(features.frame_length_samples, features.frame_step_samples),
        bins=features.bins,
        block_frames=features.block_frames,
        encoding=features.encoding,
        mixture_phase=features.mixture_phase,
        thresholds=Thresholds(**features.validity.model_dump()),
        max_failed_tracks_ratio=features.max_failed_tracks_ratio,
    )


def feature_bytes(job: Job) -> int:
    """Upper bound of the features' size, from the manifest; 0 where there is none yet."""
    config = job.config
    frames = sum(
        config.framing.count(track.samples)
        for track in job.measured or ()
        if isinstance(track, Track) and track.split in FEATURE_SPLITS
    )
    total = frames * config.frame_bytes
    # Names, checksums and, for uint8, a scale per bin of each block, about 1 %.
    return total + total // 50 + FRAME_OVERHEAD_BYTES


def run(job: Job, options: Any, out: str, notes: Path) -> None:
    """Runs the job with a progress bar and prints its table."""
    tracks = [t for t in (job.measured or job.corpus) if t.split in FEATURE_SPLITS]
    tracks = [t for t in tracks if not isinstance(t, Reject)]
    sources = 1 + len(job.config.stems)
    shards = f"{job.shards} shards a split" if isinstance(job.shards, int) else "shards by size"
    say(f"features: {len(tracks)} tracks of {sources} sources to {shards}")
    here = are_here(options)
    noted = Progress(notes.resolve() if here else None)
    with (
        _telling_what_stays(out),
        launching(out, inputs=job.inputs, decodes=job.decodes, are_here=here) as launcher,
        show_tracks(len(tracks), notes) as watch,
    ):
        run_pipeline(job.build(options, launcher, noted), watch=watch)
    print_account(json.loads(storage.read_bytes(storage.join(out, INFO))))


@contextmanager
def _telling_what_stays(out: str) -> Iterator[None]:
    try:
        yield
    except JobGoesOn:
        if not storage.is_local(out):  # a local folder is not finished, and goes
            token = storage.join(out, TOKEN)
            say(f"features: {token} stays, for the job's workers: if the job fails, remove it")
        raise


@contextmanager
def show_tracks(tracks: int, notes: Path) -> Iterator[Any]:
    """A progress bar over tracks: from the workers' notes on this machine, or from metrics.

    Yields:
        A function that takes a remote job's counters.
    """
    with progress(tracks, label="features", unit="track") as bar:

        def show(count: int, seconds: float) -> None:
            rate = seconds / max(bar.format_dict["elapsed"], 1e-6)
            bar.set_postfix_str(f"{rate:.0f} audio-s/s", refresh=False)
            bar.update(min(count, tracks) - bar.n)

        def look() -> None:
            if notes.exists():
                lines = notes.read_text(encoding="utf-8").splitlines()
                show(len(lines), sum(map(float, lines)))

        with watched(look, every_s=WATCH_S):
            yield lambda found: show(found.get("tracks", 0), found.get("audio_s", 0))
        bar.update(tracks - bar.n)  # job servers give no counters before the end


def print_account(info: dict[str, Any]) -> None:
    """Prints how many tracks and blocks of each split were kept, and rejected for which reason."""
    say("features: split   unit    total    kept  rejected")
    for split, part in info["splits"].items():
        tracks, blocks = part["tracks_rejected"], part["blocks_rejected"]
        rows = (
            ("tracks", part["tracks"], part["tracks"] - sum(tracks.values()), tracks),
            ("blocks", part["blocks_cut"], part["blocks_kept"], blocks),
        )
        for unit, total, kept, rejected in rows:
            reasons = ", ".join(f"{count} {reason}" for reason, count in rejected.items())
            say(f"features: {split:7} {unit:6} {total:6} {kept:7}  {reasons or '-'}")

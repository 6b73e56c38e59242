"""Makes small features folders for the tests, by the real job."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import apache_beam as beam

from stemforge.features.corpora import find_tracks, hold_out_valid
from stemforge.features.decoding import decode_track
from stemforge.features.feature_set import FeatureSet
from stemforge.features.shards import FeatureConfig
from stemforge.features.stft import Framing
from stemforge.features.track_audio import DecodedAudio, TrackAudio
from stemforge.features.tracks import Manifest, Reject, Track
from stemforge.features.transforms import Progress, WriteFeatures
from stemforge.features.validity import Thresholds
from stemforge.pipelines.runners import pipeline_options, run_pipeline

STEMS = ("vocals", "drums")
LIMITS = Thresholds(
    min_duration_s=1.0, max_residual_db=0.0, silence_db=-60.0, max_clipped_ratio=0.05
)
CONFIG = FeatureConfig(
    stems=STEMS,
    framing=Framing(4096, 1024),
    bins=64,
    block_frames=32,
    encoding="float32",
    mixture_phase=None,
    thresholds=LIMITS,
    max_failed_tracks_ratio=0.0,
)


def make_manifest(corpus: Path, out: Path, *, subtype: str = "PCM_16") -> Manifest:
    """Decodes a corpus' vocals and drums."""
    out.mkdir(exist_ok=True)
    found = hold_out_valid(find_tracks(str(corpus), stems=STEMS), share=0.3, official=["none"])
    decoded = [
        decode_track(t, out, root=str(corpus), subtype=subtype)  # type: ignore[arg-type]
        for t in found
    ]
    tracks = tuple(track for track in decoded if isinstance(track, Track))
    return Manifest(out, STEMS, tracks)


def compute(
    tracks: Sequence[Track | Reject],
    audio: TrackAudio,
    root: Path | str,
    *,
    config: FeatureConfig = CONFIG,
    flags: Sequence[str] = (),
) -> FeatureSet:
    """Runs the feature job into a folder."""
    if isinstance(root, Path):
        root.mkdir(parents=True, exist_ok=True)
    pipeline = beam.Pipeline(options=pipeline_options(flags))
    _ = (
        pipeline
        | beam.Create(tracks)
        | WriteFeatures(audio, config, str(root), shards=2, progress=Progress(None))
    )
    run_pipeline(pipeline, watch=lambda counters: None)
    return FeatureSet.open(str(root))


def make_features(corpus: Path, folder: Path, *, bins: int = 64) -> FeatureSet:
    """Features of a corpus' vocals and drums: float32, blocks of 32 frames."""
    manifest = make_manifest(corpus, folder / "wav")
    limits = dataclasses.replace(LIMITS, max_clipped_ratio=1.0)
    config = dataclasses.replace(CONFIG, bins=bins, thresholds=limits)
    audio = DecodedAudio(str(manifest.audio_root))
    return compute(manifest.tracks, audio, folder / "features", config=config)

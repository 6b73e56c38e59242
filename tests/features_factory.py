"""Makes small features folders and model directories for the tests, by the real job."""

from pathlib import Path

import apache_beam as beam

from features.corpora import find_tracks, hold_out_valid
from features.decoding import decode_track
from features.records import FeatureSet
from features.shards import FeatureConfig
from features.stft import Framing
from features.tracks import Manifest, Track
from features.transforms import WriteFeatures, plan_shards
from features.validity import Thresholds
from pipelines.runners import pipeline_options

STEMS = ("vocals", "drums")


def make_features(corpus: Path, folder: Path, *, bins: int = 64) -> FeatureSet:
    """Features of a corpus' vocals and drums: float32, blocks of 32 frames."""
    found = hold_out_valid(find_tracks(corpus, stems=STEMS), share=0.3, official=["none"])
    decoded = [decode_track(t, folder / "wav", root=corpus, subtype="PCM_16") for t in found]
    tracks = tuple(track for track in decoded if isinstance(track, Track))
    manifest = Manifest(folder / "wav", STEMS, tracks)
    limits = Thresholds(1.0, 0.0, -60.0, 1.0)
    config = FeatureConfig(Framing(4096, 1024), bins, 32, "float32", limits)
    root = folder / "features"
    root.mkdir()
    shards, rejects = plan_shards(manifest, config, shards=2)
    with beam.Pipeline(options=pipeline_options([])) as pipeline:
        _ = pipeline | beam.Create(shards) | WriteFeatures(manifest, config, root, rejects)
    return FeatureSet.open(root)

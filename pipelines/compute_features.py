"""Stage features: data/decoded -> data/features/ (shards, index, info.json, rejects.parquet)."""

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipelines.console import progress, quiet_stderr, run_main, say

with quiet_stderr():  # both log while they load
    import apache_beam as beam

    import pipelines.tensorflow_quietly  # noqa: F401

from features.encoding import bytes_per_frame
from features.records import FRAME_OVERHEAD_BYTES, INFO
from features.shards import FeatureConfig
from features.stft import Framing
from features.tracks import Manifest, read_manifest, read_rejects
from features.transforms import FEATURE_SPLITS, WriteFeatures, plan_shards
from features.validity import Thresholds
from pipelines.params import Features, read_params
from pipelines.paths import FEATURES, TRACK_REJECTS, TRACKS
from pipelines.runners import pipeline_options
from pipelines.work import check_free_space, file_sha256, publish, work_folder

GROWTH_CHECK_S = 0.5


def main() -> None:
    """Plans the shards, runs the Beam job, prints the account of blocks."""
    params = read_params()
    manifest = read_manifest(TRACKS)
    config = feature_config(params.features)
    shards, rejects = plan_shards(manifest, config, shards=params.features.shards)
    rejects = [*read_rejects(TRACK_REJECTS), *rejects]
    options = pipeline_options(sys.argv[1:])
    identity = (params.features.model_dump(), file_sha256(TRACKS))
    with work_folder("features", *identity) as work:
        needed = feature_bytes(manifest, config)
        check_free_space(FEATURES, needed, what="computing features")
        out = work / "features"
        out.mkdir(exist_ok=True)
        seconds = sum(track.duration_s for shard in shards for track in shard.tracks)
        say(
            f"features: {len(shards)} shards of {seconds:.0f} s of music, "
            f"{1 + len(manifest.stems)} sources each"
        )
        with show_growth(out, needed), beam.Pipeline(options=options) as pipeline:
            _ = (
                pipeline
                | "Shards" >> beam.Create(shards)
                | "Features" >> WriteFeatures(manifest, config, out.resolve(), rejects)
            )
        print_account(json.loads((out / INFO).read_text(encoding="utf-8")))
        publish(out, FEATURES)


def feature_config(features: Features) -> FeatureConfig:
    """The features section as the job's own configuration."""
    return FeatureConfig(
        framing=Framing(features.frame_length_samples, features.frame_step_samples),
        bins=features.bins,
        block_frames=features.block_frames,
        encoding=features.encoding,
        thresholds=Thresholds(**features.validity.model_dump()),
    )


def feature_bytes(manifest: Manifest, config: FeatureConfig) -> int:
    """Upper bound of the features' size, from the manifest."""
    frames = sum(
        config.framing.count(track.samples)
        for split in FEATURE_SPLITS
        for track in manifest.split(split)
    )
    per_frame = bytes_per_frame(config.encoding, bins=config.bins) + FRAME_OVERHEAD_BYTES
    return frames * per_frame * (1 + len(manifest.stems))


@contextmanager
def show_growth(folder: Path, expected_bytes: int) -> Iterator[None]:
    """A progress bar over the megabytes in a folder, which works for any local runner."""
    done = threading.Event()
    with progress(round(expected_bytes / 1e6), label="features", unit="MB") as bar:

        def watch() -> None:
            while not done.wait(GROWTH_CHECK_S):
                bar.update(_megabytes(folder) - bar.n)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
            bar.update(_megabytes(folder) - bar.n)


def _megabytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # renamed meanwhile
            total += path.stat().st_size
    return round(total / 1e6)


def print_account(info: dict[str, Any]) -> None:
    """Says what became of the blocks of each split."""
    for split, part in info["splits"].items():
        say(
            f"features: {split}: {part['blocks_kept']} of {part['blocks_cut']} blocks kept, "
            f"rejected: {part['blocks_rejected'] or 'none'}"
        )


if __name__ == "__main__":
    raise SystemExit(run_main(main))

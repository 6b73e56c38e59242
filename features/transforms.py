"""The feature job on Beam: wiring only; the work is in features/shards.py."""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics

from features.audio import SAMPLE_RATE_HZ
from features.blocks import assign_shards
from features.errors import UserError
from features.records import FEATURES_VERSION, INFO
from features.shards import FeatureConfig, Shard, ShardReport, write_shard
from features.tracks import Manifest, Reject, Split, write_rejects
from features.validity import reject_track

FEATURE_SPLITS: tuple[Split, ...] = ("train", "valid")
REJECTS = "rejects.parquet"


def plan_shards(
    manifest: Manifest, config: FeatureConfig, *, shards: int
) -> tuple[list[Shard], list[Reject]]:
    """Deals the valid tracks of both splits out to shards.

    Args:
        manifest: the decoded corpus.
        config: what features are.
        shards: number per split; at most one a track is made.

    Returns:
        The shards, and the tracks that are unfit as a whole.

    Raises:
        UserError: a split has no valid track.
    """
    planned = []
    rejects = []
    for split in FEATURE_SPLITS:
        good = {}
        for track in manifest.split(split):
            reject = reject_track(track, config.thresholds)
            if reject:
                rejects.append(reject)
            else:
                good[track.name] = track
        if not good:
            reasons = Counter(r.reason for r in rejects)
            raise UserError(
                f"no valid track in the {split} split (of {len(manifest.split(split))}; "
                f"rejects: {dict(reasons) or 'none'}): at least one is needed"
            )
        frames = {name: config.framing.count(track.samples) for name, track in good.items()}
        dealt = assign_shards(frames, shards=shards)
        for number, names in enumerate(dealt):
            tracks = tuple(good[name] for name in names)
            planned.append(Shard(split, number, len(dealt), tracks))
    return planned, rejects


class WriteShard(beam.DoFn):  # type: ignore[misc]
    """`write_shard` as a DoFn, with counters of kept and rejected blocks."""

    def __init__(self, manifest: Manifest, config: FeatureConfig, root: Path) -> None:
        self._manifest = manifest
        self._config = config
        self._root = root

    def process(self, shard: Shard) -> Iterable[ShardReport]:
        """Writes one shard and emits its report."""
        report = write_shard(shard, self._manifest, self._config, self._root)
        Metrics.counter("blocks", "kept").inc(report.kept)
        for reject in report.rejects:
            Metrics.counter("blocks", reject.reason).inc()
        yield report


class WriteFeatures(beam.PTransform):  # type: ignore[misc]
    """Shards in, a finished features folder out; emits the contents of info.json.

    Args:
        manifest: the decoded corpus.
        config: what features are.
        root: folder to write; info.json comes last.
        rejects: tracks that were rejected before, for the table.
    """

    def __init__(
        self, manifest: Manifest, config: FeatureConfig, root: Path, rejects: Sequence[Reject]
    ) -> None:
        super().__init__()
        self._manifest = manifest
        self._config = config
        self._root = root
        self._rejects = tuple(rejects)

    def expand(self, shards: beam.PCollection[Shard]) -> beam.PCollection[dict[str, Any]]:
        """Write shards anywhere, gather their reports, write info.json once."""
        return (
            shards
            | "Spread" >> beam.Reshuffle()
            | "Write" >> beam.ParDo(WriteShard(self._manifest, self._config, self._root))
            | "Gather" >> beam.combiners.ToList()
            | "Finish"
            >> beam.Map(write_info, self._manifest, self._config, self._root, rejects=self._rejects)
        )


def write_info(
    reports: Iterable[ShardReport],
    manifest: Manifest,
    config: FeatureConfig,
    root: Path,
    *,
    rejects: Sequence[Reject],
) -> dict[str, Any]:
    """Writes rejects.parquet and then info.json from all shards' reports.

    Raises:
        UserError: a split kept no block at all.
    """
    ordered = sorted(reports, key=lambda report: (report.split, report.number))
    splits = {}
    for split in FEATURE_SPLITS:
        parts = [report for report in ordered if report.split == split]
        kept = sum(report.kept for report in parts)
        reasons = Counter(reject.reason for report in parts for reject in report.rejects)
        if not kept:
            raise UserError(f"every block of the {split} split was rejected: {dict(reasons)}")
        splits[split] = {
            "shards": len(parts),
            "blocks_cut": sum(report.cut for report in parts),
            "blocks_kept": kept,
            "frames_kept": sum(report.kept_frames for report in parts),
            "blocks_rejected": dict(sorted(reasons.items())),
            "files": {name: entry for report in parts for name, entry in report.files.items()},
        }
    info = {
        "version": FEATURES_VERSION,
        "sample_rate_hz": SAMPLE_RATE_HZ,
        "framing": dataclasses.asdict(config.framing),
        "bins": config.bins,
        "block_frames": config.block_frames,
        "encoding": config.encoding,
        "stems": list(manifest.stems),
        "splits": splits,
    }
    blocks = [reject for report in ordered for reject in report.rejects]
    write_rejects(root / REJECTS, [*rejects, *blocks])
    temporary = root / f".{INFO}.tmp"
    temporary.write_text(json.dumps(info, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    temporary.rename(root / INFO)
    return info

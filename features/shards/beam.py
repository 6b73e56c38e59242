"""The feature job on Beam: only the pipeline; the work is in writing.py and corpus/decoding.py."""

import dataclasses
import io
import json
import operator
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow.parquet as pq
from apache_beam.metrics import Metrics

from stemforge import storage
from stemforge.errors import UserError
from stemforge.features.audio.formats import SAMPLE_RATE_HZ, Subtype
from stemforge.features.corpus.corpora import CorpusTrack
from stemforge.features.corpus.decoding import decode_track
from stemforge.features.corpus.manifest import Reject, Split, Track, rejects_table
from stemforge.features.corpus.track_audio import TrackAudio
from stemforge.features.shards.blocks import BySize, assign_shards
from stemforge.features.shards.records import FEATURES_VERSION, INFO, REJECTS
from stemforge.features.shards.validity import Thresholds, reject_track
from stemforge.features.shards.workers import Launcher
from stemforge.features.shards.writing import (
    Done,
    FeatureConfig,
    Shard,
    ShardReport,
    failed_track,
    write_shard,
)
from stemforge.features.signal.framing import Framing
from stemforge.unfinished import is_temporary

FEATURE_SPLITS: tuple[Split, ...] = ("train", "valid")
FAILURES = ("decode_error", "failed")  # reasons that count for max_failed_tracks_ratio
COUNTERS = "stemforge"  # namespace of the job's metrics


@dataclasses.dataclass(frozen=True)
class Plan:
    """Which track goes to which shard.

    Attributes:
        shards: the work.
        rejects: tracks of the feature splits that are rejected as a whole.
    """

    shards: tuple[Shard, ...]
    rejects: tuple[Reject, ...]


def plan_shards(
    tracks: Iterable[Track | Reject],
    thresholds: Thresholds,
    framing: Framing,
    *,
    shards: int | BySize,
) -> Plan:
    """Assigns the valid tracks of both splits to shards.

    Args:
        tracks: the measured corpus and its rejects, in any order.
        thresholds: limits of validity.
        framing: of the features, to weigh tracks by their frames.
        shards: number per split, or the rule for it; at most one a track is made.

    Raises:
        UserError: a split has no track, or no valid one.
    """
    planned: list[Shard] = []
    rejects: list[Reject] = []
    everything = list(tracks)
    for split in FEATURE_SPLITS:
        candidates = [track for track in everything if track.split == split]
        judged = [t if isinstance(t, Reject) else reject_track(t, thresholds) for t in candidates]
        found = [reject for reject in judged if reject]
        good = {
            track.name: track
            for track, reject in zip(candidates, judged, strict=True)
            if isinstance(track, Track) and not reject
        }
        rejects += found
        if not candidates:
            raise UserError(
                f"no track in the {split} split, and training needs one: the corpus needs two "
                "training songs, of which corpus.valid_share holds out one, or a "
                "corpus.validation_csv of its own"
            )
        if not good:
            reasons = Counter(reject.reason for reject in found)
            raise UserError(
                f"no valid track in the {split} split (of {len(candidates)}; "
                f"rejects: {dict(reasons) or 'none'}): at least one is needed"
            )
        frames = {name: framing.count(track.samples) for name, track in good.items()}
        count = shards if isinstance(shards, int) else shards.count(sum(frames.values()))
        dealt = assign_shards(frames, shards=count)
        planned += [
            Shard(split, number, len(dealt), tuple(good[name] for name in names))
            for number, names in enumerate(dealt)
        ]
    return Plan(tuple(planned), tuple(rejects))


@dataclasses.dataclass(frozen=True)
class Progress:
    """The file in which workers on this machine list finished tracks.

    Attributes:
        path: the file, or None where workers are on other machines, which cannot write it.
    """

    path: Path | None

    def note(self, done: Done) -> None:
        """Counts a track and its times; appends its seconds to the file, a whole line at once."""
        track = done.track
        Metrics.counter(COUNTERS, "tracks").inc()
        Metrics.counter(COUNTERS, "audio_s").inc(round(track.duration_s))
        note_time("decode_ms", done.open_s)
        note_time("transform_ms", done.transform_s)
        if self.path is not None:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            try:
                os.write(descriptor, f"{track.duration_s}\n".encode())
            finally:
                os.close(descriptor)


def note_time(name: str, seconds: float) -> None:
    """Adds to a distribution of the job's metrics, in whole milliseconds."""
    Metrics.distribution(COUNTERS, name).update(round(1000 * seconds))


class CheckedDoFn(beam.DoFn):  # type: ignore[misc]
    """A DoFn that works only where versions and places are those of the launcher."""

    def __init__(self, launcher: Launcher) -> None:
        self.launcher = launcher

    def setup(self) -> None:
        """Compares the worker with the launcher, before its first bundle."""
        self.launcher.check()


class MeasureTrack(CheckedDoFn):
    """`decode_track` as a DoFn: the result of stage decode, without keeping the WAV files."""

    def __init__(self, root: str, subtype: Subtype, launcher: Launcher) -> None:
        super().__init__(launcher)
        self._root = root
        self._subtype = subtype

    def process(self, track: CorpusTrack) -> Iterable[Track | Reject]:
        """Emits the track's row of the manifest, or its reject."""
        started_s = time.monotonic()
        measured: Track | Reject
        with tempfile.TemporaryDirectory(prefix="stemforge-") as out:
            try:
                measured = decode_track(track, Path(out), root=self._root, subtype=self._subtype)
            except Exception as error:
                measured = failed_track(track.name, track.split, error)
        note_time("measure_ms", time.monotonic() - started_s)
        yield measured


class WriteShard(CheckedDoFn):
    """`write_shard` as a DoFn, with counters of kept and rejected blocks."""

    def __init__(
        self, audio: TrackAudio, config: FeatureConfig, launcher: Launcher, progress: Progress
    ) -> None:
        super().__init__(launcher)
        self._audio = audio
        self._config = config
        self._progress = progress

    def process(self, shard: Shard) -> Iterable[ShardReport]:
        """Writes one shard and emits its report."""
        report = write_shard(
            shard, self._audio, self._config, self.launcher.output,
            done=self._progress.note, check=self.launcher.check_output,
        )  # fmt: skip
        Metrics.counter(COUNTERS, "kept").inc(report.kept)
        for reject in report.rejects:
            Metrics.counter(COUNTERS, reject.reason).inc()
        yield report


class FinishFeatures(CheckedDoFn):
    """`write_info` as a DoFn, for a job that still is its place's only one."""

    def __init__(self, config: FeatureConfig, launcher: Launcher) -> None:
        super().__init__(launcher)
        self._config = config

    def process(self, reports: list[ShardReport], plan: Plan) -> Iterable[dict[str, Any]]:
        """Writes info.json and emits its contents."""
        self.launcher.check_output()
        yield write_info(reports, self._config, self.launcher.output, plan=plan)


class WriteFeatures(beam.PTransform):  # type: ignore[misc]
    """Measured tracks and rejects in, a finished features folder out.

    Emits the contents of info.json.

    Args:
        audio: where the tracks' audio is.
        config: what features are.
        launcher: what workers must share with it, such as the folder to write, local or a URL.
        shards: number of shards per split, or the rule for it.
        progress: where finished tracks are noted.
    """

    def __init__(
        self,
        audio: TrackAudio,
        config: FeatureConfig,
        launcher: Launcher,
        *,
        shards: int | BySize,
        progress: Progress,
    ) -> None:
        super().__init__()
        self._audio = audio
        self._config = config
        self._launcher = launcher
        self._shards = shards
        self._progress = progress

    def expand(self, tracks: beam.PCollection[Track | Reject]) -> beam.PCollection[dict[str, Any]]:
        """Plans once, writes shards on any worker, collects the reports, writes info.json once."""
        config = self._config
        plan = (
            tracks
            | "Gather tracks" >> beam.combiners.ToList()
            | "Plan"
            >> beam.Map(plan_shards, config.thresholds, config.framing, shards=self._shards)
        )
        return (
            plan
            | "Shards" >> beam.FlatMap(operator.attrgetter("shards"))
            | "Spread" >> beam.Reshuffle()
            | "Write" >> beam.ParDo(WriteShard(self._audio, config, self._launcher, self._progress))
            | "Gather reports" >> beam.combiners.ToList()
            | "Finish"
            >> beam.ParDo(
                FinishFeatures(config, self._launcher), plan=beam.pvalue.AsSingleton(plan)
            )
        )


def write_info(
    reports: Iterable[ShardReport], config: FeatureConfig, root: str, *, plan: Plan
) -> dict[str, Any]:
    """Writes rejects.parquet and then info.json from all shards' reports.

    Unfinished files of killed workers are removed first.

    Raises:
        UserError: a split kept no block at all, or too many tracks failed.
    """
    ordered = sorted(reports, key=lambda report: (report.split, report.number))
    splits = {}
    for split in FEATURE_SPLITS:
        parts = [report for report in ordered if report.split == split]
        blocks = [r for report in parts for r in report.rejects if r.block is not None]
        tracks = [r for report in parts for r in report.rejects if r.block is None]
        tracks += [reject for reject in plan.rejects if reject.split == split]
        planned = sum(len(shard.tracks) for shard in plan.shards if shard.split == split)
        all_tracks = planned + sum(1 for reject in plan.rejects if reject.split == split)
        _check_failures(split, tracks, all_tracks, config.max_failed_tracks_ratio)
        kept = sum(report.kept for report in parts)
        reasons = Counter(reject.reason for reject in blocks)
        if not kept:
            raise UserError(f"every block of the {split} split was rejected: {dict(reasons)}")
        splits[split] = {
            "tracks": all_tracks,
            "tracks_rejected": dict(sorted(Counter(r.reason for r in tracks).items())),
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
        "mixture_phase": config.mixture_phase,
        "stems": list(config.stems),
        "splits": splits,
    }
    for name in storage.list_files(root, hidden=True):
        if is_temporary(name):
            storage.remove(storage.join(root, name))
    buffer = io.BytesIO()
    rejects = [*plan.rejects, *(reject for report in ordered for reject in report.rejects)]
    pq.write_table(rejects_table(rejects), buffer)
    storage.write_bytes(storage.join(root, REJECTS), buffer.getvalue())
    text = json.dumps(info, indent=2, sort_keys=True) + "\n"
    storage.write_bytes(storage.join(root, INFO), text.encode())
    return info


def _check_failures(split: Split, rejects: Sequence[Reject], tracks: int, limit: float) -> None:
    failed = [reject for reject in rejects if reject.reason in FAILURES]
    if len(failed) > limit * tracks:
        first = failed[0]
        raise UserError(
            f"{len(failed)} of {tracks} tracks of the {split} split failed, more than "
            f"features.max_failed_tracks_ratio={limit}; the first: {first.track}: {first.detail}"
        )

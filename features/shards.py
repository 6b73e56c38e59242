"""Computing one shard of features: read, transform, judge, encode, write, as a stream."""

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.audio import as_stereo, read_audio
from features.blocks import Block, cut_blocks
from features.encoding import Encoding
from features.records import INDEX, RecordFile, index_name, make_example, shard_name
from features.stft import Framing, Waveform, stft
from features.tracks import MIXTURE, Manifest, Reject, Split, Track
from features.validity import Thresholds, reject_block


@dataclass(frozen=True)
class FeatureConfig:
    """What features are.

    Attributes:
        framing: window length and hop.
        bins: number of lowest bins kept, F.
        block_frames: frames per block.
        encoding: how magnitudes are stored.
        thresholds: limits of validity.
    """

    framing: Framing
    bins: int
    block_frames: int
    encoding: Encoding
    thresholds: Thresholds


@dataclass(frozen=True)
class Shard:
    """The work of writing one shard.

    Attributes:
        split: of the tracks.
        number: from 0.
        shards: number of shards in the split.
        tracks: in the order of writing.
    """

    split: Split
    number: int
    shards: int
    tracks: tuple[Track, ...]


@dataclass(frozen=True)
class ShardReport:
    """What was written.

    Attributes:
        split: of the shard.
        number: of the shard.
        files: size and sha256 by name, for info.json.
        cut: number of blocks cut.
        kept: number of blocks written.
        kept_frames: frames in them.
        rejects: the other blocks.
    """

    split: Split
    number: int
    files: dict[str, dict[str, Any]]
    cut: int
    kept: int
    kept_frames: int
    rejects: tuple[Reject, ...]


def read_blocks(
    manifest: Manifest, track: Track, config: FeatureConfig
) -> Iterator[tuple[Block, dict[str, Waveform]]]:
    """Reads the samples under each block of a song, the mixture's and each stem's.

    Yields:
        The block, and float32 [samples, 2] per source; memory is that of one block.
    """
    framing = config.framing
    for block in cut_blocks(framing.count(track.samples), block_frames=config.block_frames):
        sources = {}
        for name in (MIXTURE, *manifest.stems):
            waveform = read_audio(
                manifest.path(track, name),
                start=block.start_frame * framing.step_samples,
                samples=framing.span(block.frames),
            )
            sources[name] = as_stereo(waveform)
        yield block, sources


def magnitudes(waveform: Waveform, config: FeatureConfig) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The lowest bins of |STFT|: float32 [frames, bins, channels]."""
    return np.abs(stft(waveform, config.framing)[:, : config.bins])


def write_shard(shard: Shard, manifest: Manifest, config: FeatureConfig, root: Path) -> ShardReport:
    """Computes a shard and writes its files under `root`.

    Files get their final names only when the whole shard is done, so a run that was
    killed leaves nothing that could be taken for a shard, and may simply run again.
    """
    (root / shard.split).mkdir(parents=True, exist_ok=True)
    rejects: list[Reject] = []
    rows: list[dict[str, Any]] = []
    cut = kept_frames = 0
    with contextlib.ExitStack() as stack:
        files = {}
        for source in (MIXTURE, *manifest.stems):
            name = shard_name(shard.split, source, shard.number, shard.shards)
            files[source] = stack.enter_context(RecordFile(root / name))
        for track in shard.tracks:
            for block, sources in read_blocks(manifest, track, config):
                cut += 1
                reject = reject_block(
                    track.name, block, sources, config.thresholds, mixture=MIXTURE
                )
                if reject:
                    rejects.append(reject)
                    continue
                kept_frames += block.frames
                for source, waveform in sources.items():
                    values = magnitudes(waveform, config)
                    example = make_example(track.name, block, values, config.encoding)
                    offset, length = files[source].write(example)
                    rows.append(
                        {
                            "track": track.name,
                            "block": block.index,
                            "start_frame": block.start_frame,
                            "frames": block.frames,
                            "source": source,
                            "offset": offset,
                            "length": length,
                        }
                    )
        entries = {
            shard_name(shard.split, source, shard.number, shard.shards): file.commit()
            for source, file in files.items()
        }
    index = index_name(shard.split, shard.number, shard.shards)
    entries[index] = _write_index(root / index, rows)
    kept = cut - len(rejects)
    return ShardReport(shard.split, shard.number, entries, cut, kept, kept_frames, tuple(rejects))


def _write_index(path: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    temporary = path.with_name(f".{path.name}.tmp")
    pq.write_table(pa.Table.from_pylist(rows, INDEX), temporary)
    data = temporary.read_bytes()
    temporary.rename(path)
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}

"""TFRecord files of blocks, their index, and a reader that goes by offset.

One file per shard and source; each record is a tf.train.Example with the fields track,
block, start_frame and magnitude (the encoded array). The framing of TFRecord is: length as
uint64, masked CRC-32C of the length, data, masked CRC-32C of the data, little endian
(https://www.tensorflow.org/tutorials/load_data/tfrecord).
"""

import hashlib
import json
import os
import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf
from numpy.typing import NDArray

from features import encoding as enc
from features.blocks import Block
from features.encoding import Encoding
from features.errors import UserError
from features.stft import Framing
from features.tracks import MIXTURE, Split

FEATURES_VERSION = 1
INFO = "info.json"
FRAME_OVERHEAD_BYTES = 16
INDEX = pa.schema(
    [
        ("track", pa.string()),
        ("block", pa.int64()),
        ("start_frame", pa.int64()),
        ("frames", pa.int64()),
        ("source", pa.string()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
    ]
)


def masked_crc(data: bytes) -> int:
    """TFRecord's masked CRC-32C: rotated right by 15 bits, plus a constant."""
    crc = int(google_crc32c.value(data))
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def frame_record(data: bytes) -> bytes:
    """Wraps a record's data as a TFRecord file stores it."""
    length = struct.pack("<Q", len(data))
    return b"".join(
        (length, struct.pack("<I", masked_crc(length)), data, struct.pack("<I", masked_crc(data)))
    )


def shard_name(split: Split, source: str, shard: int, shards: int) -> str:
    """File of one shard and source, relative to the features' folder."""
    return f"{split}/{source}-{shard:05d}-of-{shards:05d}.tfrecord"


def index_name(split: Split, shard: int, shards: int) -> str:
    """Index of one shard, relative to the features' folder."""
    return f"{split}/index-{shard:05d}-of-{shards:05d}.parquet"


class RecordFile:
    """A TFRecord file being written under a temporary name.

    `commit` gives it its final name; without it nothing is left behind.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        self._file: BinaryIO = self._temporary.open("wb")
        self._sha256 = hashlib.sha256()
        self._size = 0

    def write(self, data: bytes) -> tuple[int, int]:
        """Appends a record; returns its offset and its framed length in bytes."""
        framed = frame_record(data)
        self._file.write(framed)
        self._sha256.update(framed)
        offset, self._size = self._size, self._size + len(framed)
        return offset, len(framed)

    def commit(self) -> dict[str, Any]:
        """Closes and renames; returns the file's entry in info.json."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._temporary.rename(self._path)
        return {"bytes": self._size, "sha256": self._sha256.hexdigest()}

    def __enter__(self) -> "RecordFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._temporary.unlink(missing_ok=True)


def make_example(
    track: str, block: Block, magnitudes: NDArray[np.float32], encoding: Encoding
) -> bytes:
    """Serialises one block of one source; the same block gives the same bytes."""

    def ints(value: int) -> tf.train.Feature:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))

    def data(value: bytes) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    fields = {
        "track": data(track.encode()),
        "block": ints(block.index),
        "start_frame": ints(block.start_frame),
        "magnitude": data(enc.encode(magnitudes, encoding)),
    }
    example = tf.train.Example(features=tf.train.Features(feature=fields))
    return bytes(example.SerializeToString(deterministic=True))


@dataclass(frozen=True)
class Run:
    """Consecutive kept blocks of one song.

    Attributes:
        track: name of the song.
        frames: total number of frames.
        blocks: (shard, row of the shard's index) per block, in order.
        starts: first frame of each block, counted from the run's start.
    """

    track: str
    frames: int
    blocks: tuple[tuple[int, int], ...]
    starts: tuple[int, ...]


@dataclass(frozen=True)
class FeatureSet:
    """A finished features folder, checked when opened.

    Attributes:
        root: the folder.
        info: contents of info.json.
    """

    root: Path
    info: dict[str, Any]

    @classmethod
    def open(cls, root: Path) -> "FeatureSet":
        """Reads info.json and checks version and file sizes.

        Raises:
            UserError: the folder is unfinished, of another version, or a file has
                changed its size.
        """
        path = root / INFO
        try:
            info: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"{root}: no {INFO} in it: not a finished features folder") from None
        if info.get("version") != FEATURES_VERSION:
            raise UserError(
                f"{path}: features version {info.get('version')} is not {FEATURES_VERSION}: "
                "compute the features again"
            )
        for split in info["splits"].values():
            for name, entry in split["files"].items():
                file = root / name
                size = file.stat().st_size if file.is_file() else None
                if size != entry["bytes"]:
                    raise UserError(
                        f"{file}: {size} bytes instead of {entry['bytes']}: damaged; "
                        "compute the features again"
                    )
        return cls(root, info)

    @property
    def framing(self) -> Framing:
        """Window length and hop that the features were made with."""
        return Framing(**self.info["framing"])

    @cached_property
    def bins(self) -> int:
        """Number of lowest bins that are stored."""
        return int(self.info["bins"])

    @cached_property
    def sha256(self) -> str:
        """Identity of the whole folder: info.json names every file's sum."""
        return hashlib.sha256((self.root / INFO).read_bytes()).hexdigest()

    def reader(self, split: Split) -> "SplitReader":
        """Opens one split for reading by offset."""
        return SplitReader(self, split)


class SplitReader:
    """Reads windows of frames from one split."""

    def __init__(self, features: FeatureSet, split: Split) -> None:
        self._features = features
        self._split = split
        self._shards: int = features.info["splits"][split]["shards"]
        self._encoding: Encoding = features.info["encoding"]
        self._index: list[dict[str, list[tuple[int, int]]]] = []
        self._files: dict[tuple[str, int], int] = {}
        self.runs = self._read_index()

    def _read_index(self) -> list[Run]:
        runs: list[Run] = []
        for shard in range(self._shards):
            table = pq.read_table(
                self._features.root / index_name(self._split, shard, self._shards)
            )
            spans: dict[str, list[tuple[int, int]]] = {}
            blocks = []
            for row in table.to_pylist():
                spans.setdefault(row["source"], []).append((row["offset"], row["length"]))
                if row["source"] == MIXTURE:
                    blocks.append((row["track"], row["start_frame"], row["frames"]))
            self._index.append(spans)
            runs += _join_blocks(shard, blocks)
        return sorted(runs, key=lambda run: run.track)

    def read(self, source: str, run: Run, start: int, frames: int) -> NDArray[np.float32]:
        """Reads consecutive frames of one source.

        Args:
            source: "mixture" or a stem.
            run: where to read.
            start: first frame, counted from the run's start.
            frames: how many.

        Returns:
            float32 [frames, bins, 2], magnitudes.

        Raises:
            UserError: a record's checksum is wrong.
        """
        end = start + frames
        out = np.empty((frames, self._features.bins, 2), np.float32)
        ends = (*run.starts[1:], run.frames)
        for (shard, row), first, last in zip(run.blocks, run.starts, ends, strict=True):
            if last <= start or first >= end:
                continue
            block = self._block(source, shard, row)
            low, high = max(start, first), min(end, last)
            out[low - start : high - start] = block[low - first : high - first]
        return out

    def _block(self, source: str, shard: int, row: int) -> NDArray[np.float32]:
        name = shard_name(self._split, source, shard, self._shards)
        key = (source, shard)
        if key not in self._files:
            self._files[key] = os.open(self._features.root / name, os.O_RDONLY)
        offset, length = self._index[shard][source][row]
        framed = os.pread(self._files[key], length, offset)
        data = framed[12:-4]
        stored = framed[-4:]
        if len(framed) != length or struct.pack("<I", masked_crc(data)) != stored:
            raise UserError(
                f"{self._features.root / name}: record at byte {offset} is damaged: "
                "compute the features again"
            )
        example = tf.train.Example.FromString(data)
        magnitude = example.features.feature["magnitude"].bytes_list.value[0]
        return enc.decode(magnitude, self._encoding, bins=self._features.bins)


def _join_blocks(shard: int, blocks: list[tuple[str, int, int]]) -> list[Run]:
    """Joins blocks that follow each other in a song; rejected blocks leave gaps."""
    groups: list[list[tuple[int, str, int, int]]] = []
    for row, (track, start, frames) in enumerate(blocks):
        last = groups[-1][-1] if groups else None
        if last is not None and last[1] == track and last[2] + last[3] == start:
            groups[-1].append((row, track, start, frames))
        else:
            groups.append([(row, track, start, frames)])
    return [
        Run(
            track=group[0][1],
            frames=sum(frames for _, _, _, frames in group),
            blocks=tuple((shard, row) for row, *_ in group),
            starts=tuple(start - group[0][2] for _, _, start, _ in group),
        )
        for group in groups
    ]

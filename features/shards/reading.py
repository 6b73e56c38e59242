"""A finished features folder, and a reader that reads it by offset."""

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stemforge import storage
from stemforge.errors import UserError
from stemforge.features.corpus.manifest import Split
from stemforge.features.corpus.sources import MIXTURE, PHASE
from stemforge.features.shards import encoding as enc
from stemforge.features.shards.encoding import Encoding
from stemforge.features.shards.examples import parse_example, unframe_record
from stemforge.features.shards.records import FEATURES_VERSION, INFO, index_name, shard_name
from stemforge.features.signal.framing import Framing
from stemforge.storage import RangeReader

CHANNELS = 2


@dataclass(frozen=True)
class StoredWindows:
    """Windows of consecutive frames as stored, for encoding.decode.

    Attributes:
        values: [windows, frames, bins, 2] of the encoding's type.
        scales: float32 [windows, blocks, bins, 2], one per block that a window touches, padded
            with zeros to the largest possible number.
        segments: int32 [windows, frames], index into `scales` of each frame.
    """

    values: NDArray[Any]
    scales: NDArray[np.float32]
    segments: NDArray[np.int32]


@dataclass(frozen=True)
class Run:
    """Consecutive kept blocks of one song.

    Attributes:
        track: name of the song.
        first_frame: frame of the song that it starts at.
        frames: total number of frames.
        blocks: (shard, row of the shard's index) per block, in order.
        starts: first frame of each block, counted from the run's start.
    """

    track: str
    first_frame: int
    frames: int
    blocks: tuple[tuple[int, int], ...]
    starts: tuple[int, ...]


@dataclass(frozen=True)
class FeatureSet:
    """A finished features folder, checked when opened.

    Attributes:
        root: the folder, local or a URL.
        info: contents of info.json.
    """

    root: str
    info: dict[str, Any]

    @classmethod
    def open(cls, root: str) -> "FeatureSet":
        """Reads info.json and checks version and file sizes.

        Raises:
            UserError: the folder is unfinished, of another version, or a file has
                changed its size.
        """
        path = storage.join(root, INFO)
        try:
            info: dict[str, Any] = json.loads(storage.read_bytes(path))
        except FileNotFoundError:
            raise UserError(
                f"{root}: no {INFO} in it: not a finished features folder: compute the features"
            ) from None
        if info.get("version") != FEATURES_VERSION:
            raise UserError(
                f"{path}: features version {info.get('version')} is not {FEATURES_VERSION}: "
                "compute the features again"
            )
        for split in info["splits"].values():
            for name, entry in split["files"].items():
                file = storage.join(root, name)
                size = storage.size(file)
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

    @property
    def dtype(self) -> str:
        """NumPy's name of the type of stored values."""
        return str(np.dtype(enc.DTYPES[self.info["encoding"]]))

    @cached_property
    def sha256(self) -> str:
        """sha256 of info.json, which holds every file's: the identity of the whole folder."""
        return hashlib.sha256(storage.read_bytes(storage.join(self.root, INFO))).hexdigest()

    def reader(self, split: Split) -> "SplitReader":
        """Opens one split for reading by offset."""
        return SplitReader(self, split)


class SplitReader:
    """Reads windows of frames from one split."""

    def __init__(self, features: FeatureSet, split: Split) -> None:
        self._features = features
        self._split = split
        self._shards: int = features.info["splits"][split]["shards"]
        encoding: Encoding = features.info["encoding"]
        self._dtypes = dict.fromkeys((MIXTURE, *features.info["stems"]), enc.DTYPES[encoding])
        self._dtypes[PHASE] = "i1"
        self._index: list[dict[str, list[tuple[int, int]]]] = []
        self._files: dict[str, RangeReader] = {}
        self.runs = self._read_index()

    def _read_index(self) -> list[Run]:
        runs: list[Run] = []
        for shard in range(self._shards):
            name = index_name(self._split, shard, self._shards)
            data = storage.read_bytes(storage.join(self._features.root, name))
            spans: dict[str, list[tuple[int, int]]] = {}
            blocks = []
            for row in pq.read_table(io.BytesIO(data)).to_pylist():
                spans.setdefault(row["source"], []).append((row["offset"], row["length"]))
                if row["source"] == MIXTURE:
                    blocks.append((row["track"], row["start_frame"], row["frames"]))
            self._index.append(spans)
            runs += _join_blocks(shard, blocks)
        return sorted(runs, key=lambda run: run.track)

    def blocks_per_window(self, frames: int) -> int:
        """The most blocks that a window of this many frames can touch."""
        return (frames - 2) // int(self._features.info["block_frames"]) + 2

    def read_stored(
        self, source: str, places: Sequence[tuple[Run, int]], frames: int
    ) -> StoredWindows:
        """Reads windows of one source as they are stored.

        Args:
            source: "mixture", a stem, or "mixture_phase".
            places: for each window a run, and its first frame counted from the run's start.
            frames: of a window.

        Raises:
            UserError: a record is damaged.
        """
        shape = (self._features.bins, CHANNELS)
        values = np.empty((len(places), frames, *shape), self._dtypes[source])
        scales = np.zeros((len(places), self.blocks_per_window(frames), *shape), np.float32)
        segments = np.empty((len(places), frames), np.int32)
        for number, (run, start) in enumerate(places):
            touched = 0
            ends = (*run.starts[1:], run.frames)
            for (shard, row), first, last in zip(run.blocks, run.starts, ends, strict=True):
                low, high = max(start, first), min(start + frames, last)
                if low >= high:
                    continue
                stored, scale = self._block(source, shard, row)
                window = slice(low - start, high - start)
                values[number, window] = stored[low - first : high - first]
                segments[number, window] = touched
                if len(scale):
                    scales[number, touched] = scale
                touched += 1
        return StoredWindows(values, scales, segments)

    def read(self, source: str, run: Run, start: int, frames: int) -> NDArray[np.float32]:
        """Reads consecutive frames of the mixture or a stem.

        Args:
            source: "mixture" or a stem.
            run: where to read.
            start: first frame, counted from the run's start.
            frames: how many.

        Returns:
            float32 [frames, bins, 2], magnitudes.

        Raises:
            UserError: a record is damaged.
        """
        found = self.read_stored(source, [(run, start)], frames)
        return enc.decode(found.values[0], found.scales[0], found.segments[0])

    def read_phases(self, places: Sequence[tuple[Run, int]], frames: int) -> NDArray[np.float32]:
        """Reads the mixture's phases, where features.mixture_phase stored them.

        Args:
            places: where each window lies, see `read_stored`.
            frames: of a window.

        Returns:
            float32 [windows, frames, bins, 2], radians in [-pi, pi).

        Raises:
            UserError: the features have no phases, or a record is damaged.
        """
        if self._features.info["mixture_phase"] is None:
            raise UserError(
                f"{self._features.root}: no phases in it: set features.mixture_phase=int8"
            )
        return enc.decode_phase(self.read_stored(PHASE, places, frames).values)

    def _block(self, source: str, shard: int, row: int) -> tuple[NDArray[Any], NDArray[np.float32]]:
        name = shard_name(self._split, source, shard, self._shards)
        place = storage.join(self._features.root, name)
        if name not in self._files:
            self._files[name] = RangeReader(place)
        offset, length = self._index[shard][source][row]
        data = unframe_record(self._files[name].read(offset, length))
        if data is None:
            raise UserError(
                f"{place}: record at byte {offset} is damaged: compute the features again"
            )
        fields = parse_example(data)
        shape = (-1, self._features.bins, CHANNELS)
        values = np.frombuffer(fields["values"], self._dtypes[source])
        scale = np.frombuffer(fields.get("scale", b""), "<f4")
        return values.reshape(shape), scale.reshape(shape[1:] if scale.size else (0, CHANNELS))


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
            first_frame=group[0][2],
            frames=sum(frames for _, _, _, frames in group),
            blocks=tuple((shard, row) for row, *_ in group),
            starts=tuple(start - group[0][2] for _, _, start, _ in group),
        )
        for group in groups
    ]

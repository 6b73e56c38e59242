"""A finished features folder, and a reader that reads it by offset."""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemforge import storage
from stemforge.errors import UserError
from stemforge.features.corpus.manifest import Split, song_of
from stemforge.features.corpus.sources import MIXTURE, PHASE, check_stem_names
from stemforge.features.shards import encoding as enc
from stemforge.features.shards.encoding import Encoding
from stemforge.features.shards.examples import read_record
from stemforge.features.shards.records import FEATURES_VERSION, INDEX, INFO, index_name, shard_name
from stemforge.features.signal.framing import Framing
from stemforge.parquet import read_rows
from stemforge.storage import RangeReader
from stemforge.text import parse_json, show

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
        track: name of the song, or of its copy in another pitch and tempo.
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

    @property
    def song(self) -> str:
        """Name of the song; copies have that of their original."""
        return song_of(self.track)


Place = tuple[Run, int]  # of a window: its run, and its first frame counted from the run's start


@dataclass(frozen=True)
class FeatureSet:
    """A finished features folder, checked when opened.

    Attributes:
        root: the folder, local or a URL.
        info: contents of info.json.
        text: the same as the file's bytes.
    """

    root: str
    info: dict[str, Any]
    text: bytes = field(repr=False)

    @classmethod
    def open(cls, root: str) -> "FeatureSet":
        """Reads info.json and checks version and file sizes.

        Raises:
            UserError: the folder is unfinished, of another version, or a file is missing or has
                changed its size.
        """
        features = cls.read_info(root)
        for split in features.info["splits"].values():
            for name, entry in split["files"].items():
                file = storage.join(root, name)
                size = storage.size(file)
                if size != entry["bytes"]:
                    found = (
                        f"no such file, but {INFO} names it"
                        if size is None
                        else f"{size} bytes instead of {entry['bytes']}: damaged"
                    )
                    raise UserError(f"{file}: {found}; compute the features again")
        return features

    @classmethod
    def read_info(cls, root: str) -> "FeatureSet":
        """Reads info.json and checks its version; the other files may be missing.

        Raises:
            UserError: the folder is unfinished or of another version.
        """
        path = storage.join(root, INFO)
        try:
            text = storage.read_bytes(path)
            info: dict[str, Any] = parse_json(text)
        except FileNotFoundError:
            raise UserError(
                f"{root}: no {INFO} in it: not a finished features folder: compute the features"
            ) from None
        except ValueError as error:
            raise UserError(f"{path}: {error}: compute the features again") from None
        version = info.get("version") if isinstance(info, dict) else None
        if version != FEATURES_VERSION:
            raise UserError(
                f"{path}: features version {show(version)} is not {FEATURES_VERSION}: "
                "compute the features again"
            )
        try:
            _check_info(info)
        except (KeyError, TypeError, AttributeError, ValueError, UserError) as error:
            raise UserError(f"{path}: damaged: {error}: compute the features again") from None
        return cls(root, info, text)

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
        return hashlib.sha256(self.text).hexdigest()

    def files(self, sources: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The files that hold some sources, with their indexes: bytes and sha256 by name."""
        found: dict[str, dict[str, Any]] = {}
        for split, part in self.info["splits"].items():
            for shard in range(part["shards"]):
                names = [shard_name(split, source, shard, part["shards"]) for source in sources]
                for name in (*names, index_name(split, shard, part["shards"])):
                    found[name] = part["files"][name]
        return found

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
            try:
                rows, _ = read_rows(io.BytesIO(data), INDEX)
                spans, blocks = self._read_rows(rows)
            except ValueError as error:
                place = storage.join(self._features.root, name)
                raise UserError(f"{place}: {error}: compute the features again") from None
            self._index.append(spans)
            runs += _join_blocks(shard, blocks)
        return sorted(runs, key=lambda run: (run.song, run.track))

    def _read_rows(
        self, rows: list[dict[str, Any]]
    ) -> tuple[dict[str, list[tuple[int, int]]], list[tuple[str, int, int]]]:
        """Where the records of each source lie, and track, first frame and frames of each block.

        Raises:
            ValueError: the rows contradict each other or info.json.
        """
        spans: dict[str, list[tuple[int, int]]] = {}
        blocks: dict[str, list[tuple[str, int, int]]] = {}
        longest = self._features.info["block_frames"]
        for row in rows:
            if row["source"] not in self._dtypes or not 1 <= row["frames"] <= longest:
                raise ValueError(f"damaged at {row['track']!r}, block {row['block']}")
            if min(row["offset"], row["length"], row["start_frame"]) < 0:
                raise ValueError(f"damaged at {row['track']!r}, block {row['block']}")
            spans.setdefault(row["source"], []).append((row["offset"], row["length"]))
            block = (row["track"], row["start_frame"], row["frames"])
            blocks.setdefault(row["source"], []).append(block)
        wanted = blocks.get(MIXTURE, [])
        if any(found != wanted for found in blocks.values()):
            raise ValueError("damaged: not the same blocks of each source")
        return spans, wanted

    def blocks_per_window(self, frames: int) -> int:
        """The most blocks that a window of this many frames can touch."""
        return (frames - 2) // int(self._features.info["block_frames"]) + 2

    def read_stored(self, source: str, places: Sequence[Place], frames: int) -> StoredWindows:
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
                stored, scale = self._block(source, shard, row, last - first)
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

    def read_phases(self, places: Sequence[Place], frames: int) -> NDArray[np.float32]:
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

    def _block(
        self, source: str, shard: int, row: int, frames: int
    ) -> tuple[NDArray[Any], NDArray[np.float32]]:
        name = shard_name(self._split, source, shard, self._shards)
        place = storage.join(self._features.root, name)
        if name not in self._files:
            self._files[name] = RangeReader(place)
        offset, length = self._index[shard][source][row]
        fields = read_record(self._files[name].read(offset, length))
        shape = (frames, self._features.bins, CHANNELS)
        try:
            if fields is None:
                raise ValueError("its checksum is wrong")
            values = np.frombuffer(fields["values"], self._dtypes[source])
            scale = np.frombuffer(fields.get("scale", b""), "<f4")
            return values.reshape(shape), scale.reshape(shape[1:] if scale.size else (0, CHANNELS))
        except (KeyError, TypeError, ValueError):
            raise UserError(
                f"{place}: record at byte {offset} is damaged: compute the features again"
            ) from None


def _check_info(info: dict[str, Any]) -> None:
    """Refuses an info.json that stemforge has not written.

    Raises:
        KeyError, TypeError, AttributeError, ValueError, UserError: it has not the keys and types.
    """
    for name in ("sample_rate_hz", "bins", "block_frames"):
        _whole(info, name, 1)
    framing = info["framing"]
    for name in ("length_samples", "step_samples"):
        _whole(framing, name, 1)
    Framing(**framing).check(info["bins"])
    if info["encoding"] not in enc.DTYPES or info["mixture_phase"] not in (None, "int8"):
        raise ValueError("encoding or mixture_phase")
    check_stem_names(info["stems"])
    sources = (MIXTURE, *info["stems"], *([PHASE] if info["mixture_phase"] else []))
    for split, part in info["splits"].items():
        for name in ("shards", "blocks_cut", "blocks_kept"):
            _whole(part, name, 0)
        for name, _ in part["blocks_rejected"].items():
            _whole(part["blocks_rejected"], name, 0)
        for entry in part["files"].values():
            _whole(entry, "bytes", 0)
        if part["shards"] > len(part["files"]):
            raise ValueError(f"{part['shards']} shards in {len(part['files'])} files")
        for shard in range(part["shards"]):
            names = [shard_name(split, source, shard, part["shards"]) for source in sources]
            for name in (*names, index_name(split, shard, part["shards"])):
                if not part["files"][name]["sha256"]:
                    raise ValueError(f"{name} has no sha256")


def _whole(values: dict[str, Any], name: str, least: int) -> None:
    if type(values[name]) is not int or not least <= values[name] < 2**63:
        raise ValueError(f"{name}={show(values[name])}")


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

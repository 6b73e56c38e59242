"""The files of a features folder: names, TFRecord files being written, indexes, info.json.

One TFRecord file per shard and source; each record is a tf.train.Example with the fields
track, block, start_frame, frames, values and, for uint8, scale (see encoding.py).
"""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from stemforge.features.corpus.manifest import Split
from stemforge.features.shards.examples import frame_record
from stemforge.unfinished import finishing, is_temporary, temporary_name

FEATURES_VERSION = 2
INFO = "info.json"
REJECTS = "rejects.parquet"
TOKEN = ".run"  # there while a job writes the folder, see workers.py
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


def shard_name(split: Split, source: str, shard: int, shards: int) -> str:
    """File of one shard and source, relative to the features' folder."""
    return f"{split}/{source}-{shard:05d}-of-{shards:05d}.tfrecord"


def index_name(split: Split, shard: int, shards: int) -> str:
    """Index of one shard, relative to the features' folder."""
    return f"{split}/index-{shard:05d}-of-{shards:05d}.parquet"


def is_feature_file(name: str) -> bool:
    """Whether a features folder may hold a file of this name, finished or not."""
    shard = re.fullmatch(r"(train|valid)/[^/]+-\d{5}-of-\d{5}\.(tfrecord|parquet)", name)
    return shard is not None or name in (INFO, REJECTS) or is_temporary(name)


@dataclass(frozen=True)
class Mark:
    """A place in a RecordFile to go back to."""

    size: int
    sha256: Any


class RecordFile:
    """A TFRecord file being written under a temporary name.

    `commit` gives it its final name; without it nothing is left behind.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary = temporary_name(path, by_process=True)
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

    def mark(self) -> Mark:
        """The current end of the file."""
        return Mark(self._size, self._sha256.copy())

    def go_back(self, mark: Mark) -> None:
        """Removes what was written since a mark."""
        self._file.flush()
        self._file.truncate(mark.size)
        self._file.seek(mark.size)
        self._size, self._sha256 = mark.size, mark.sha256.copy()

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
        try:
            self._file.close()  # may fail on a full disk, as it flushes
        finally:
            self._temporary.unlink(missing_ok=True)


def write_index(path: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Writes the index of a shard; returns its entry in info.json."""
    with finishing(path, by_process=True) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, INDEX), temporary)
        data = temporary.read_bytes()
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}

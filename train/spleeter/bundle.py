"""TensorFlow's checkpoints, read without TensorFlow.

A checkpoint of TensorFlow 1 is a table, NAME.index, from a variable's name to its type, shape
and place in files NAME.data-00000-of-00001 and so on. The table is LevelDB's
(https://github.com/google/leveldb/blob/main/doc/table_format.md), uncompressed, and its values
are protocol buffers of tensorflow/core/protobuf/tensor_bundle.proto.
"""

import ast
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stemforge.checksums import masked_crc
from stemforge.errors import UserError
from stemforge.text import brief

LIST = "checkpoint"  # the file that names a folder's newest checkpoint
FOOTER_BYTES = 48
MAGIC = 0xDB4775248B80FB57
BLOCK_END_BYTES = 5  # how a block is compressed, and its checksum
# tensorflow/core/framework/types.proto
TYPES = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8"}


class _Damaged(Exception):
    """Bytes that are no checkpoint; its text says why."""


def newest_checkpoint(folder: Path) -> Path:
    """The folder's newest checkpoint, as its file `checkpoint` names it: a path without an ending.

    Raises:
        UserError: there is none.
    """
    advice = "give the folder that holds checkpoint, *.index and *.data-*"
    try:
        text = (folder / LIST).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{folder}: no checkpoint in it (a file named {LIST}): {advice}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{folder / LIST}: not readable: {brief(error)}: {advice}") from None
    found = re.search(r'^\s*model_checkpoint_path\s*:\s*("(?:[^"\\\n]|\\.)*")', text, re.M)
    if found is None:
        raise UserError(f"{folder / LIST}: not a readable checkpoint: it names none: {advice}")
    try:
        # A text-format protocol buffer escapes the bytes of UTF-8.
        name = ast.literal_eval(f"b{found[1]}").decode() if found[1].isascii() else found[1][1:-1]
    except (ValueError, SyntaxError):
        raise UserError(f"{folder / LIST}: not a readable checkpoint: {brief(found[1])}") from None
    # The path to it leads nowhere on another machine than that which wrote it.
    last = Path(name).name
    there = {path.name for path in folder.iterdir()}
    if f"{last}.index" not in there:
        raise UserError(f"{folder}: no checkpoint in it ({brief(name)}.index): {advice}")
    return folder / last


def read_bundle(prefix: Path) -> dict[str, NDArray[np.generic]]:
    """All variables of a checkpoint by name.

    Args:
        prefix: its path, without the endings .index and .data-*.

    Raises:
        UserError: it is damaged, or holds what a checkpoint of nets does not: parts of variables
            or values that are not numbers.
    """
    try:
        index = prefix.with_name(f"{prefix.name}.index").read_bytes()
        table = dict(_entries(index))
        shards = _header(table.pop(b"", b""))
        return {
            name.decode(): _read(prefix, _entry(name, value), shards)
            for name, value in table.items()
        }
    except (_Damaged, OSError) as error:
        raise UserError(f"{prefix}: not a readable checkpoint: {brief(error)}") from None
    # What reading past an end, a wrong length, or a name that is not UTF-8 raises.
    except (IndexError, ValueError, struct.error, OverflowError) as error:
        raise UserError(f"{prefix}: not a readable checkpoint: damaged: {brief(error)}") from None


@dataclass(frozen=True)
class _Entry:
    """A variable in the table: BundleEntryProto."""

    dtype: str
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc32c: int


def _read(prefix: Path, entry: _Entry, shards: int) -> NDArray[np.generic]:
    path = prefix.with_name(f"{prefix.name}.data-{entry.shard:05d}-of-{shards:05d}")
    if entry.offset + entry.size > path.stat().st_size:
        raise _Damaged(f"{path.name}: too short")
    with path.open("rb") as file:
        file.seek(entry.offset)
        data = file.read(entry.size)
    if masked_crc(data) != entry.crc32c:
        raise _Damaged(f"{path.name}: a checksum is wrong")
    return np.frombuffer(data, entry.dtype).reshape(entry.shape)


def _entries(table: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a table, in its order."""
    if len(table) < FOOTER_BYTES or struct.unpack("<Q", table[-8:])[0] != MAGIC:
        raise _Damaged("not a table of variables")
    footer = table[-FOOTER_BYTES:]
    *meta, start = _handle(footer, 0)  # of the block of meta data, which is empty
    if [*_block(table, *meta)]:
        raise _Damaged("it has meta data")
    for _, value in _block(table, *_handle(footer, start)[:2]):
        yield from _block(table, *_handle(value, 0)[:2])


def _handle(data: bytes, start: int) -> tuple[int, int, int]:
    """A block's offset and size, and where in `data` the next value begins."""
    offset, start = _varint(data, start)
    size, start = _varint(data, start)
    return offset, size, start


def _block(table: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    end = offset + size
    if end + BLOCK_END_BYTES > len(table):
        raise _Damaged("too short")
    kind, crc = struct.unpack("<BI", table[end : end + BLOCK_END_BYTES])
    if masked_crc(table[offset : end + 1]) != crc:
        raise _Damaged("a checksum is wrong")
    if kind != 0:
        raise _Damaged(f"compression {kind} is not supported")
    (restarts,) = struct.unpack("<I", table[end - 4 : end])
    end -= 4 * (1 + restarts)
    key = b""
    while offset < end:
        shared, offset = _varint(table, offset)
        rest, offset = _varint(table, offset)
        length, offset = _varint(table, offset)
        if offset + rest + length > end:
            raise _Damaged("an entry is too long")
        key = key[:shared] + table[offset : offset + rest]
        offset += rest
        yield key, table[offset : offset + length]
        offset += length


def _header(data: bytes) -> int:
    """How many files hold the values: BundleHeaderProto."""
    fields = dict(_fields(data))
    if fields.get(2, 0) != 0:
        raise _Damaged("its numbers are big-endian")
    shards = fields.get(1)
    if not isinstance(shards, int):
        raise _Damaged("it has no header")
    return shards


def _entry(name: bytes, data: bytes) -> _Entry:
    dtype, shape, numbers = 0, b"", dict.fromkeys((3, 4, 5, 6), 0)
    for number, value in _fields(data):
        if number == 7:
            raise _Damaged(f"it holds parts of {name.decode()}: not supported")
        if number == 2 and isinstance(value, bytes):
            shape = value
        elif number == 1 and isinstance(value, int):
            dtype = value
        elif number in numbers and isinstance(value, int):
            numbers[number] = value
    if dtype not in TYPES:
        raise _Damaged(f"{name.decode()}: values of type {dtype} are not supported")
    return _Entry(TYPES[dtype], _shape(shape), *numbers.values())


def _shape(data: bytes) -> tuple[int, ...]:
    """TensorShapeProto: a message for each axis, whose field 1 is the size."""
    sizes = []
    for number, axis in _fields(data):
        if number == 2 and isinstance(axis, bytes):
            size = dict(_fields(axis)).get(1, 0)
            if not isinstance(size, int):
                raise _Damaged("an axis has no size")
            sizes.append(size)
    return tuple(sizes)


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Numbers and values of a protocol buffer (https://protobuf.dev/programming-guides/encoding)."""
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, place = _varint(data, place)
            yield number, value
        elif kind == 2:
            length, place = _varint(data, place)
            if place + length > len(data):
                raise _Damaged("a field is too long")
            yield number, data[place : place + length]
            place += length
        elif kind == 5:
            (fixed,) = struct.unpack("<I", data[place : place + 4])
            yield number, fixed
            place += 4
        else:
            raise _Damaged(f"a field of kind {kind}")


def _varint(data: bytes, start: int) -> tuple[int, int]:
    """A number in groups of 7 bits, and where the next value begins."""
    value = shift = 0
    while True:
        byte = data[start]
        value |= (byte & 0x7F) << shift
        start, shift = start + 1, shift + 7
        if byte < 0x80:
            return value, start
        if shift > 63:
            raise _Damaged("a number is too long")

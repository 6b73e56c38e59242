"""Files on this machine or on any filesystem that Beam knows (gs://, s3://, hdfs://).

A place is a string: a local path, or a URL with its scheme. Local places are handled by
the standard library; Beam's filesystems are imported only for the others.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from features.errors import UserError

CHUNK_BYTES = 2**20


def is_local(place: str) -> bool:
    """True of a path of this machine, false of a URL."""
    return "://" not in place


def join(root: str, *parts: str) -> str:
    """A place below another; absolute parts are taken as they are."""
    place = root
    for part in parts:
        absolute = os.path.isabs(part) or not is_local(part)
        place = part if absolute else f"{place.rstrip('/')}/{part}"
    return place if not is_local(place) else Path(place).as_posix()


def name(place: str) -> str:
    """The last part of a place."""
    return place.rstrip("/").rsplit("/", 1)[-1]


def parent(place: str) -> str:
    """What a place lies in."""
    return place.rstrip("/").rsplit("/", 1)[0]


def read_bytes(place: str) -> bytes:
    """The whole contents.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: the filesystem cannot be reached or read.
    """
    if is_local(place):
        return Path(place).read_bytes()
    with _remote(place) as file_system, _open(file_system, place) as file:
        return bytes(file.read())


def read_range(place: str, offset: int, length: int) -> bytes:
    """`length` bytes from `offset`; fewer at the end of the file.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: the filesystem cannot be reached or read.
    """
    if is_local(place):
        with Path(place).open("rb") as file:
            return os.pread(file.fileno(), length, offset)
    with _remote(place) as file_system, _open(file_system, place) as file:
        file.seek(offset)
        return bytes(file.read(length))


def write_bytes(place: str, data: bytes) -> None:
    """Writes a file whole or not at all: renamed into place, or one upload."""
    if is_local(place):
        path = Path(place)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            temporary.write_bytes(data)
            temporary.rename(path)
        finally:
            temporary.unlink(missing_ok=True)
        return
    with _remote(place) as file_system, file_system.create(place, _MIME, _RAW()) as file:
        file.write(data)


def upload(path: Path, place: str) -> None:
    """Copies a local file to a URL."""
    with (
        path.open("rb") as source,
        _remote(place) as file_system,
        file_system.create(place, _MIME, _RAW()) as target,
    ):
        shutil.copyfileobj(source, target, CHUNK_BYTES)


@contextmanager
def local_copy(place: str, scratch: Path) -> Iterator[Path]:
    """A local file with the contents of a place: the file itself, or a copy while it is used.

    Args:
        place: where it lies.
        scratch: folder for the copy.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: the filesystem cannot be reached or read.
    """
    if is_local(place):
        yield Path(place)
        return
    path = scratch / name(place)
    try:
        with (
            _remote(place) as file_system,
            _open(file_system, place) as source,
            path.open("wb") as target,
        ):
            shutil.copyfileobj(source, target, CHUNK_BYTES)
        yield path
    finally:
        path.unlink(missing_ok=True)


def size(place: str) -> int | None:
    """Size of a file in bytes, or None where there is none."""
    if is_local(place):
        path = Path(place)
        return path.stat().st_size if path.is_file() else None
    with _remote(place) as file_system:
        found = file_system.match([place])[0].metadata_list
        return int(found[0].size_in_bytes) if found else None


def list_files(folder: str) -> list[str]:
    """All files below a folder, at any depth, sorted, as places relative to it."""
    if is_local(folder):
        root = Path(folder)
        return sorted(
            path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()
        )
    prefix = folder.rstrip("/") + "/"
    with _remote(folder) as file_system:
        found = file_system.match([prefix + "**"])[0].metadata_list
    return sorted(entry.path.removeprefix(prefix) for entry in found)


def remove(place: str) -> None:
    """Removes a file, if it is there."""
    if is_local(place):
        Path(place).unlink(missing_ok=True)
    elif size(place) is not None:
        with _remote(place) as file_system:
            file_system.delete([place])


_MIME = "application/octet-stream"


def _RAW() -> Any:
    """Beam's word for bytes as they are: a .gz is not unpacked."""
    from apache_beam.io.filesystem import CompressionTypes

    return CompressionTypes.UNCOMPRESSED


def _open(file_system: Any, place: str) -> BinaryIO:
    # Object stores tell of a missing object only once it is read, each in its own words.
    if not file_system.exists(place):
        raise FileNotFoundError(2, "no such file", place)
    opened: BinaryIO = file_system.open(place, _MIME, _RAW())
    return opened


@contextmanager
def _remote(place: str) -> Iterator[Any]:
    """The Beam filesystem of a URL; its own errors become one line."""
    from apache_beam.io.filesystem import BeamIOError
    from apache_beam.io.filesystems import FileSystems

    try:
        yield FileSystems.get_filesystem(place)
    except ValueError as error:
        raise UserError(
            f"{place}: no filesystem for it ({error}): gs:// needs `pip install 'stemforge[gcp]'`"
        ) from None
    except BeamIOError as error:
        raise UserError(f"{place}: {error}") from None

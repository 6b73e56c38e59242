"""Files on this machine or on any filesystem that fsspec knows (gs://, s3://, hdfs://).

A place is a string: a local path, or a URL with its scheme. Local places are handled by
the standard library; fsspec is imported only for the others.
"""

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from stemforge.errors import UserError, needs
from stemforge.unfinished import finishing

CHUNK_BYTES = 2**20
EMULATOR = "STORAGE_EMULATOR_HOST"  # where Google's clients find a local gs://
# Of this machine's disk, also while it takes a copy of a remote file.
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
GOOGLE = {"gs", "gcs"}
LISTED_AT_ONCE = GOOGLE | {"s3", "s3a"}  # all that lies in a bucket, by one request
CONNECT_S, SILENT_S = 30.0, 60.0  # how long Google may take to answer, and pause within an answer


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


def absolute(place: str) -> str:
    """A place as other processes find it too."""
    return str(Path(place).resolve()) if is_local(place) else place


def relative(place: str, root: str) -> str:
    """A place as seen from a folder, or unchanged where it does not lie below it."""
    return place.removeprefix(join(root).rstrip("/") + "/")


def read_bytes(place: str) -> bytes:
    """The whole contents.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: the filesystem cannot be reached or read.
    """
    if is_local(place):
        return Path(place).read_bytes()
    with _remote(place) as (file_system, path):
        return bytes(file_system.cat_file(path))


def file_sha256(path: Path) -> str:
    """sha256 of a local file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class RangeReader:
    """Reads parts of one file, from any thread.

    Args:
        place: where it lies.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: the filesystem cannot be reached or read.
    """

    def __init__(self, place: str) -> None:
        self._place = place
        self._bytes = 0
        self._file: BinaryIO | None = None
        if is_local(place):
            self._file = Path(place).open("rb", buffering=0)  # noqa: SIM115 (open as long as self)
        elif (found := size(place)) is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", place)
        else:
            self._bytes = found

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`; fewer at the end of the file."""
        if self._file is not None:
            return os.pread(self._file.fileno(), length, offset)
        end = min(offset + length, self._bytes)  # a request beyond the end is refused
        if offset >= end:
            return b""
        with _remote(self._place) as (file_system, path):
            return bytes(file_system.cat_file(path, start=offset, end=end))


def write_bytes(place: str, data: bytes) -> None:
    """Writes a file whole or not at all: renamed into place, or one upload.

    Raises:
        UserError: the filesystem cannot be reached or written.
    """
    if is_local(place):
        file = Path(place)
        file.parent.mkdir(parents=True, exist_ok=True)
        with finishing(file) as temporary:
            temporary.write_bytes(data)
        return
    with _remote(place) as (file_system, path):
        file_system.makedirs(parent(path), exist_ok=True)
        file_system.pipe_file(path, data)


def upload(path: Path, place: str) -> None:
    """Copies a local file to a URL, whole or not at all.

    Raises:
        FileNotFoundError: there is no such local file.
        UserError: the filesystem cannot be reached or written.
    """
    path.stat()  # a missing source is not a missing bucket
    with _remote(place) as (file_system, target):
        file_system.makedirs(parent(target), exist_ok=True)
        file_system.put_file(str(path), target)


@contextmanager
def local_copy(place: str) -> Iterator[Path]:
    """A local file with the contents of a place: the file itself, or a copy while it is used.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: the filesystem cannot be reached or read.
    """
    if is_local(place):
        yield Path(place)
        return
    with tempfile.TemporaryDirectory(prefix="stemforge-") as folder:
        copy = Path(folder) / name(place)
        with _remote(place) as (file_system, path):
            file_system.get_file(path, str(copy))
        yield copy


def size(place: str) -> int | None:
    """Size of a file in bytes, or None where there is none.

    Raises:
        UserError: the filesystem cannot be reached or read.
    """
    if is_local(place):
        file = Path(place)
        return file.stat().st_size if file.is_file() else None
    with suppress(FileNotFoundError), _remote(place) as (file_system, path):
        found = file_system.info(path)
        if found["type"] == "file":
            return int(found["size"])
    return None


def is_folder(place: str) -> bool:
    """True where there is such a folder; on an object store, where anything lies below it."""
    return Path(place).is_dir() if is_local(place) else bool(list_files(place))


def list_files(folder: str) -> list[str]:
    """All files below a folder, at any depth, sorted, as places relative to it.

    Raises:
        UserError: the filesystem cannot be reached or read.
    """
    if is_local(folder):
        root = Path(folder)
        return sorted(
            path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()
        )
    with _remote(folder) as (file_system, path):
        prefix = path.rstrip("/") + "/"
        found = [place for place in _find(file_system, path) if place.startswith(prefix)]
    # Object stores may hold an empty object for a folder.
    return sorted(place.removeprefix(prefix) for place in found if not place.endswith("/"))


def remove(place: str) -> None:
    """Removes a file, if it is there.

    Raises:
        UserError: the filesystem cannot be reached or written.
    """
    if is_local(place):
        Path(place).unlink(missing_ok=True)
        return
    with suppress(FileNotFoundError), _remote(place) as (file_system, path):
        file_system.rm_file(path)


def _find(file_system: Any, path: str) -> list[str]:
    """All files below a path, or the one that it is.

    Folder by folder where listing a bucket is not one request: fsspec's own walk leaves out
    what it cannot list.

    Raises:
        FileNotFoundError: there is no such bucket.
    """
    protocols = file_system.protocol
    if LISTED_AT_ONCE & {*([protocols] if isinstance(protocols, str) else protocols)}:
        return list(file_system.find(path))
    found: list[str] = []
    with suppress(FileNotFoundError):
        for entry in file_system.ls(path, detail=True):
            below = entry["name"].rstrip("/") != path.rstrip("/")
            deeper = below and entry["type"] == "directory"
            found += _find(file_system, entry["name"]) if deeper else [entry["name"]]
    return found


@contextmanager
def _remote(place: str) -> Iterator[tuple[Any, str]]:
    """The filesystem of a URL and the path there; what it raises becomes one line.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it cannot be reached or read, or there is no such bucket.
    """
    missing = False
    try:
        file_system, path = _file_system(place)
        try:
            yield file_system, path
        except FileNotFoundError:
            _find(file_system, path)  # raises the same where the bucket is missing
            missing = True
    except UserError:
        raise
    except Exception as error:  # filesystems have errors of their own, without a common base
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            raise
        why = " ".join(str(error).split()) or type(error).__name__
        reason = "no such bucket" if isinstance(error, FileNotFoundError) else why
        raise UserError(f"{place}: cannot be reached or read: {reason}") from error
    if missing:
        raise FileNotFoundError(errno.ENOENT, "no such file", place)


def _file_system(place: str) -> tuple[Any, str]:
    """The filesystem that fsspec has for a URL, and the path there.

    fsspec keeps one for each process, and makes another one after a fork. It must not keep
    listings: other processes write what we list.

    Raises:
        UserError: there is none, or its package is not installed.
    """
    scheme, _, path = place.partition("://")
    with needs("gcp", what=place):
        if scheme in GOOGLE:
            return _google_storage(), path
        from fsspec.core import url_to_fs
    try:
        file_system, path = url_to_fs(place, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        raise UserError(f"{place}: no filesystem for it: {error}") from None
    return file_system, path


def _google_storage() -> Any:
    """gs:// by its JSON interface.

    Not gcsfs's default class: it asks for the kind of each bucket by gRPC, which needs a
    permission of its own and waits a minute for a local emulator.
    """
    from aiohttp import ClientTimeout
    from gcsfs.core import GCSFileSystem

    timeout = ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENT_S)
    return GCSFileSystem(
        token="anon" if EMULATOR in os.environ else None,  # None: looks for credentials
        use_listings_cache=False,
        session_kwargs={"timeout": timeout, "trust_env": True},  # trust_env: HTTPS_PROXY counts
    )

"""Files on this machine or on any filesystem that fsspec supports (gs://, s3://, hdfs://).

A place is a string: a local path, or a URL with its scheme. The standard library handles local
places; fsspec is imported only for the others.
"""

import errno
import functools
import hashlib
import os
import re
import socket
import sys
import tempfile
import time
import unicodedata
import urllib.parse
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from stemforge.errors import UserError, needs
from stemforge.unfinished import finishing

CHUNK_BYTES = 2**20
EMULATOR = "STORAGE_EMULATOR_HOST"  # address of a local gs:// for Google's clients
# Errors of this machine's disk, also while a remote file is copied to it.
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
GOOGLE = {"gs", "gcs"}
LISTED_AT_ONCE = GOOGLE | {"s3", "s3a"}  # one request lists a whole bucket
MACOS_EXTRAS = "__MACOSX"  # folder of a zip file from macOS: a ._X for each file X
CONNECT_S, SILENT_S = 30.0, 60.0  # longest wait for Google's answer, and pause within an answer
GOOGLE_ADDRESS = "https://storage.googleapis.com"
# gcsfs would look for credentials, then try again and again: two minutes without a word.
FIRST_TRIES, FIRST_WAIT_S, FIRST_PAUSE_S = 3, 5.0, 2.0


def is_local(place: str) -> bool:
    """True for a path on this machine, false for a URL."""
    return "://" not in place


def join(root: str, *parts: str) -> str:
    """A place below another; an absolute part replaces all before it."""
    place = root
    for part in parts:
        absolute = os.path.isabs(part) or not is_local(part)
        place = part if absolute else f"{place.rstrip('/')}/{part}"
    return place if not is_local(place) else Path(place).as_posix()


def name(place: str) -> str:
    """The last part of a place."""
    return place.rstrip("/").rsplit("/", 1)[-1]


def parent(place: str) -> str:
    """The folder of a place."""
    return place.rstrip("/").rsplit("/", 1)[0]


def absolute(place: str) -> str:
    """A place that is valid in other processes too, whatever their current folder."""
    return str(Path(place).resolve()) if is_local(place) else place


def relative(place: str, root: str) -> str:
    """A place relative to a folder; unchanged if it is not below the folder."""
    return place.removeprefix(join(root).rstrip("/") + "/")


def comparable(name: str) -> str:
    """A name in the form in which names are compared (Unicode NFC).

    macOS may spell an accent as a character of its own, which looks the same. Files are opened by
    their own spelling.

    Raises:
        UserError: it is not UTF-8, so that no table or JSON could hold it.
    """
    if re.search("[\ud800-\udfff]", name):  # how Python keeps other bytes
        raise UserError(f"{name}: a name that is not UTF-8: rename it")
    return unicodedata.normalize("NFC", name)


def folded(name: str) -> str:
    """A name in the form in which names are compared where upper and lower case count the same."""
    return comparable(name).casefold()


def is_hidden(place: str) -> bool:
    """Whether a place in a user's folder means nothing: .X, __MACOSX, or below one of these.

    Args:
        place: relative to the folder, whose own place may have such parts.
    """
    return any(part.startswith(".") or part == MACOS_EXTRAS for part in place.split("/"))


def visible(paths: Iterable[Path], folder: Path) -> list[Path]:
    """Those of the paths in a local folder that are not hidden there, sorted."""
    return sorted(path for path in paths if not is_hidden(path.relative_to(folder).as_posix()))


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
        place: of the file.

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
            self._bytes = os.fstat(self._file.fileno()).st_size
        elif (found := size(place)) is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", place)
        else:
            self._bytes = found

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`; fewer at the end of the file, none before its start."""
        # A request beyond the end is refused elsewhere, and asks for memory here.
        end = min(offset + length, self._bytes)
        if not 0 <= offset < end:
            return b""
        if self._file is not None:
            return os.pread(self._file.fileno(), end - offset, offset)
        with _remote(self._place) as (file_system, path):
            return bytes(file_system.cat_file(path, start=offset, end=end))


def write_bytes(place: str, data: bytes) -> None:
    """Writes a complete file or none: by a rename, or by one upload.

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
    """Copies a local file to a URL: a complete file or none.

    Raises:
        FileNotFoundError: there is no such local file.
        UserError: the filesystem cannot be reached or written.
    """
    path.stat()  # else a missing source would be reported as a missing bucket
    with _remote(place) as (file_system, target):
        file_system.makedirs(parent(target), exist_ok=True)
        file_system.put_file(str(path), target)


@contextmanager
def local_copy(place: str) -> Iterator[Path]:
    """A local file with the contents of a place: the file itself, or a temporary copy.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: the filesystem cannot be reached or read.
    """
    if is_local(place):
        yield Path(place)
        return
    with tempfile.TemporaryDirectory(prefix="stemforge-") as folder:
        copy = Path(folder) / name(place)
        download(place, copy)
        yield copy


def download(place: str, path: Path) -> None:
    """Copies the file at a URL to a local file; after an error, a part of it may be there.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: the filesystem cannot be reached or read.
    """
    with _remote(place) as (file_system, source):
        file_system.get_file(source, str(path))


def stamp(place: str) -> str | None:
    """A text that changes when the file at a place does, told without reading it.

    Returns:
        Size and time of a local file; for a URL what the filesystem states, such as a checksum.
        None where there is no such file.

    Raises:
        UserError: the filesystem cannot be reached or read.
    """
    if is_local(place):
        with suppress(FileNotFoundError):
            status = Path(place).stat()
            return f"{status.st_size} {status.st_mtime_ns}"
    else:
        with suppress(FileNotFoundError), _remote(place) as (file_system, path):
            return str(file_system.ukey(path))
    return None


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
    """True where there is such a folder; on an object store, where there is any file below it."""
    return Path(place).is_dir() if is_local(place) else bool(list_files(place, hidden=True))


def list_files(folder: str, *, hidden: bool = False, depth: int = sys.maxsize) -> list[str]:
    """All files below a folder, sorted, as places relative to it.

    Links to files and folders are followed; a link to a folder that it is in is not.

    Args:
        folder: local or a URL; where there is none, it has no files.
        hidden: also those that `is_hidden`, such as unfinished files.
        depth: most parts of a place; 1: only the folder's own files.

    Raises:
        OSError: a local folder cannot be read.
        UserError: the filesystem cannot be reached or read.
    """
    if is_local(folder):
        root = Path(folder)
        walked = _walk(root, hidden=hidden, depth=depth)
        found = [path.relative_to(root).as_posix() for path in walked]
    else:
        with _remote(folder) as (file_system, path):
            prefix = path.rstrip("/") + "/"
            places = [place for place in _find(file_system, path) if place.startswith(prefix)]
        # Object stores may hold an empty object for a folder.
        found = [place.removeprefix(prefix) for place in places if not place.endswith("/")]
    near = (place for place in found if place.count("/") < depth)
    return sorted(place for place in near if hidden or not is_hidden(place))


def folders(folder: str) -> list[str]:
    """Names of the folders in a folder that are not hidden, sorted.

    Args:
        folder: local or a URL; on an object store, a folder is what a file is below.

    Raises:
        OSError: a local folder cannot be read.
        UserError: the filesystem cannot be reached or read.
    """
    if not is_local(folder):
        return sorted({place.partition("/")[0] for place in list_files(folder) if "/" in place})
    paths = Path(folder).iterdir() if Path(folder).is_dir() else ()
    return sorted(path.name for path in paths if path.is_dir() and not is_hidden(path.name))


def empty_entries(folder: str) -> list[str]:
    """Entries of a local folder that `list_files` finds nothing in: empty folders, dead links."""
    if not is_local(folder) or not Path(folder).is_dir():
        return []
    return [
        path.name
        for path in sorted(Path(folder).iterdir())
        if not is_hidden(path.name)
        and not path.is_file()
        and next(_walk(path, hidden=False, depth=sys.maxsize), None) is None
    ]


def _walk(
    folder: Path, *, hidden: bool, depth: int, above: frozenset[tuple[int, int]] = frozenset()
) -> Iterator[Path]:
    """The files down to a depth in a local folder; `above` are the inodes that it is in."""
    try:
        status = folder.stat()
        paths = sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return  # another process may have removed it
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    for path in paths:
        if not hidden and is_hidden(path.name):
            continue  # may be a folder that cannot be read, such as .Trashes
        if path.is_dir():
            if depth > 1:
                yield from _walk(path, hidden=hidden, depth=depth - 1, above=above | {here})
        elif path.is_file():
            yield path


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
    """All files below a path, or the path itself if it is a file.

    Where one request cannot list a bucket, this lists folder by folder, because fsspec's own walk
    silently skips folders that it cannot list.

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
    """The filesystem of a URL and the path there; the filesystem's errors become one line.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: the filesystem cannot be reached or read, or there is no such bucket.
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
    except Exception as error:  # filesystems have their own errors, without a common base
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            raise
        why = " ".join(str(error).split()) or type(error).__name__
        reason = "no such bucket" if isinstance(error, FileNotFoundError) else why
        raise UserError(f"{place}: cannot be reached or read: {reason}") from error
    if missing:
        raise FileNotFoundError(errno.ENOENT, "no such file", place)


def _file_system(place: str) -> tuple[Any, str]:
    """The filesystem for a URL, from fsspec, and the path there.

    fsspec keeps one filesystem per process, and makes a new one after a fork. It must not cache
    listings, because other processes write the files that we list.

    Raises:
        UserError: there is no such filesystem, or its package is not installed.
    """
    scheme, _, path = place.partition("://")
    with needs("gs", what=place):
        if scheme in GOOGLE:
            return _google_storage(), path
        from fsspec.core import url_to_fs
    try:
        file_system, path = url_to_fs(place, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        raise UserError(f"{place}: no filesystem for it: {error}") from None
    return file_system, path


@functools.cache  # a later loss of the network is left to gcsfs
def check_network(address: str) -> None:
    """Connects to a server once, a few times if need be, within about 20 seconds.

    Args:
        address: its URL; nothing is tried where a proxy stands before it.

    Raises:
        ConnectionError: there is no connection.
    """
    from urllib.request import getproxies, proxy_bypass  # which loads much

    url = urllib.parse.urlsplit(address if "://" in address else f"http://{address}")
    host = url.hostname or ""
    if url.scheme in getproxies() and not proxy_bypass(host):
        return
    port = url.port or {"https": 443}.get(url.scheme, 80)
    for last in (*[False] * (FIRST_TRIES - 1), True):
        try:
            socket.create_connection((host, port), timeout=FIRST_WAIT_S).close()
            return
        except OSError as error:
            if last or isinstance(error, socket.gaierror):  # a resolver tries by itself
                raise ConnectionError(
                    f"no connection to {host}:{port}: {error.strerror or error}: check the network"
                ) from None
        time.sleep(FIRST_PAUSE_S)


def _google_storage() -> Any:
    """gs:// by its JSON interface.

    gcsfs's default class is not used: it asks by gRPC for the kind of each bucket, which needs an
    extra permission and waits a minute with a local emulator.
    """
    from aiohttp import ClientTimeout
    from gcsfs.core import GCSFileSystem

    check_network(os.environ.get(EMULATOR) or GOOGLE_ADDRESS)
    timeout = ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENT_S)
    return GCSFileSystem(
        token="anon" if EMULATOR in os.environ else None,  # None: looks for credentials
        use_listings_cache=False,
        session_kwargs={"timeout": timeout, "trust_env": True},  # trust_env: HTTPS_PROXY counts
    )

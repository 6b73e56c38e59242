"""Files on this machine or on any filesystem that Beam knows (gs://, s3://, hdfs://).

A place is a string: a local path, or a URL with its scheme. Local places are handled by
the standard library; Beam's filesystems are imported only for the others.
"""

import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from stemforge.errors import UserError, needs

CHUNK_BYTES = 2**20
EMULATOR = "STORAGE_EMULATOR_HOST"  # where Google's client finds a local gs://


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
    with _remote(place) as file_system, _open(file_system, place) as file:
        return bytes(file.read())


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
        self._lock = threading.Lock()
        self._file: BinaryIO
        if is_local(place):
            self._file = Path(place).open("rb", buffering=0)  # noqa: SIM115 (open as long as self)
        else:
            with _remote(place) as file_system:
                self._file = _open(file_system, place)

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`; fewer at the end of the file."""
        if is_local(self._place):
            return os.pread(self._file.fileno(), length, offset)
        with self._lock, _remote(self._place):
            self._file.seek(offset)
            return bytes(self._file.read(length))


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
    with _remote(place) as file_system, _create(file_system, place) as file:
        file.write(data)


def upload(path: Path, place: str) -> None:
    """Copies a local file to a URL."""
    with (
        path.open("rb") as source,
        _remote(place) as file_system,
        _create(file_system, place) as target,
    ):
        shutil.copyfileobj(source, target, CHUNK_BYTES)


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
        path = Path(folder) / name(place)
        with (
            _remote(place) as file_system,
            _open(file_system, place) as source,
            path.open("wb") as target,
        ):
            shutil.copyfileobj(source, target, CHUNK_BYTES)
        yield path


def size(place: str) -> int | None:
    """Size of a file in bytes, or None where there is none."""
    if is_local(place):
        path = Path(place)
        return path.stat().st_size if path.is_file() else None
    with _remote(place) as file_system:
        found = file_system.match([place])[0].metadata_list
        return int(found[0].size_in_bytes) if found else None


def is_folder(place: str) -> bool:
    """True where there is such a folder; on an object store, where anything lies below it."""
    return Path(place).is_dir() if is_local(place) else bool(list_files(place))


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


def _create(file_system: Any, place: str) -> BinaryIO:
    from apache_beam.io.filesystem import CompressionTypes

    created: BinaryIO = file_system.create(place, _MIME, CompressionTypes.UNCOMPRESSED)
    return created


def _open(file_system: Any, place: str) -> BinaryIO:
    from apache_beam.io.filesystem import CompressionTypes

    # Object stores tell of a missing object only once it is read, each in its own words.
    if not file_system.exists(place):
        raise FileNotFoundError(2, "no such file", place)
    opened: BinaryIO = file_system.open(place, _MIME, CompressionTypes.UNCOMPRESSED)
    return opened


@contextmanager
def _remote(place: str) -> Iterator[Any]:
    """The Beam filesystem of a URL; what it and its libraries raise becomes one line."""
    with needs("gcp", what=place):
        from apache_beam.io.filesystem import BeamIOError
        from apache_beam.io.filesystems import FileSystems
    if EMULATOR in os.environ:
        _go_without_credentials()
    try:
        yield FileSystems.get_filesystem(place)
    except ValueError as error:
        raise UserError(
            f"{place}: no filesystem for it: gs:// needs `pip install 'stemforge[gcp]'` ({error})"
        ) from None
    except (BeamIOError, *_cloud_errors()) as error:
        cause = error
        while isinstance(cause, BeamIOError) and cause.exception_details:
            cause = next(iter(cause.exception_details.values()))
        raise UserError(f"{place}: cannot be reached or read: {cause}") from None


def _cloud_errors() -> tuple[type[Exception], ...]:
    """What Google's client raises: no permission, no such bucket, no network."""
    try:
        from google.api_core.exceptions import GoogleAPIError
        from google.auth.exceptions import GoogleAuthError
        from requests import RequestException
    except ImportError:  # without the gcp extra there is no such filesystem either
        return ()
    return GoogleAPIError, GoogleAuthError, RequestException


def _go_without_credentials() -> None:
    """Spares a local emulator Beam's search for credentials, which takes 24 s to fail."""
    from apache_beam.internal.gcp import auth

    auth._Credentials._credentials_init = True

"""Files on fsspec's filesystems, as far as no server is needed: its own in memory, and none."""

import socket
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from stemforge import storage
from stemforge.errors import MissingExtraError, UserError


@pytest.fixture
def root() -> str:
    """An empty folder in memory."""
    return f"memory://{uuid.uuid4()}"


@pytest.fixture(params=["memory", "file", "local"])
def folder(request: pytest.FixtureRequest, root: str, tmp_path: Path) -> str:
    """An empty folder of each kind."""
    return {"memory": root, "file": tmp_path.as_uri(), "local": str(tmp_path)}[request.param]


def test_a_file_is_written_read_listed_and_removed(folder: str) -> None:
    place = storage.join(folder, "a", "Song #1 100% ä.wav")
    assert storage.list_files(folder) == []
    assert (storage.size(place), storage.is_folder(f"{folder}/a")) == (None, False)
    storage.write_bytes(place, b"0123456789")
    storage.write_bytes(f"{folder}/a/b/empty", b"")
    assert storage.list_files(folder) == ["a/Song #1 100% ä.wav", "a/b/empty"]
    assert storage.list_files(f"{folder}/a/") == ["Song #1 100% ä.wav", "b/empty"]
    assert storage.read_bytes(place) == b"0123456789"
    assert storage.size(place) == 10
    assert storage.size(f"{folder}/a/b/empty") == 0
    assert storage.size(f"{folder}/a") is None
    assert storage.is_folder(f"{folder}/a")
    storage.write_bytes(place, b"new")
    with storage.local_copy(place) as path:
        assert path.read_bytes() == b"new"
    storage.remove(place)
    storage.remove(place)
    assert storage.list_files(folder) == ["a/b/empty"]


HIDDEN = ("._Song.wav", ".checkpoints/Song.wav", "a/.vocals.bak", "__MACOSX/a/Song.wav")


def test_hidden_files_are_listed_only_on_request(folder: str) -> None:
    for place in ("Song.wav", "a/Song ...wav", *HIDDEN):
        storage.write_bytes(f"{folder}/.hidden root/{place}", b"")
    root = f"{folder}/.hidden root"
    assert storage.list_files(root) == ["Song.wav", "a/Song ...wav"]
    assert storage.list_files(root, hidden=True) == sorted(["Song.wav", "a/Song ...wav", *HIDDEN])
    assert not storage.list_files(f"{root}/nowhere")
    assert storage.is_folder(f"{root}/__MACOSX")


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    storage.write_bytes(str(tmp_path / "elsewhere" / "song" / "a.wav"), b"")
    (tmp_path / "root" / "b").mkdir(parents=True)
    for link, target in (
        ("linked", "../elsewhere"),
        ("again", "../elsewhere"),
        ("a.wav", "../elsewhere/song/a.wav"),
        ("b/above", ".."),
        ("b/itself", "itself"),
        ("b/nothing", "nowhere"),
    ):
        (tmp_path / "root" / link).symlink_to(target)
    (tmp_path / "elsewhere" / "loop").symlink_to(tmp_path / "root")
    # Each song twice, once by each link to its folder; no name has a circle in it.
    assert storage.list_files(str(tmp_path / "root")) == [
        "a.wav",
        "again/song/a.wav",
        "linked/song/a.wav",
    ]
    assert storage.list_files(str(tmp_path / "root" / "a.wav")) == []


def test_a_missing_file_is_told_from_other_errors(folder: str) -> None:
    place = f"{folder}/nothing"
    with pytest.raises(FileNotFoundError, match="nothing"):
        storage.read_bytes(place)
    with pytest.raises(FileNotFoundError, match="nothing"):
        storage.RangeReader(place)


def test_ranges_are_read_from_any_thread(folder: str) -> None:
    data = np.random.default_rng(1).bytes(10_000)
    storage.write_bytes(f"{folder}/data", data)
    reader = storage.RangeReader(f"{folder}/data")
    spans = [(offset, 700) for offset in range(0, 10_500, 7)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda span: reader.read(*span), spans))
    assert found == [data[offset : offset + length] for offset, length in spans]
    assert reader.read(9_990, 2**62) == data[-10:]  # and no memory for more
    assert reader.read(-5, 10) == reader.read(2**62, 10) == b""


def test_a_file_is_uploaded(root: str, tmp_path: Path) -> None:
    (tmp_path / "song").write_bytes(b"song")
    storage.upload(tmp_path / "song", f"{root}/songs/song")
    assert storage.read_bytes(f"{root}/songs/song") == b"song"
    with pytest.raises(FileNotFoundError, match=r"tmp.*none"):
        storage.upload(tmp_path / "none", f"{root}/songs/none")


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("nowhere://b/x", "nowhere://b/x: no filesystem for it: Protocol not known: nowhere"),
        ("s3://b/x", "s3://b/x: no filesystem for it: Install s3fs to access S3"),
        ("http://127.0.0.1:9/x", "http://127.0.0.1:9/x: cannot be reached or read: Cannot connect"),
    ],
)
def test_what_cannot_be_reached_is_one_line(
    place: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    for work in (storage.read_bytes, storage.size, storage.list_files, storage.RangeReader):
        with pytest.raises(UserError) as raised:
            work(place)
        assert str(raised.value).startswith(line)


@pytest.mark.parametrize(
    ("address", "line"),
    [
        (
            "http://127.0.0.1:1",
            "no connection to 127.0.0.1:1: Connection refused: check the network",
        ),
        (
            "nowhere.invalid",
            "no connection to nowhere.invalid:80: Name or service not known: check",
        ),
    ],
)
def test_no_network_is_one_line_within_seconds(
    address: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(host: str, port: int, *more: Any) -> list[Any]:
        if host == "127.0.0.1":
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))]
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(storage, "FIRST_PAUSE_S", 0.0)
    monkeypatch.setenv(storage.EMULATOR, address)
    monkeypatch.delenv("http_proxy", raising=False)
    monkeypatch.delenv("HTTP_PROXY", raising=False)
    start = time.monotonic()
    with pytest.raises(UserError) as raised:
        storage.list_files("gs://b")
    assert str(raised.value).startswith(f"gs://b: cannot be reached or read: {line}")
    assert time.monotonic() - start < 10  # and not half a minute, as gcsfs takes
    assert storage.FIRST_TRIES * (storage.FIRST_WAIT_S + 2.0) < 30


@pytest.mark.parametrize(("package", "module"), [("gcsfs", "gcsfs.core"), ("fsspec", "fsspec")])
def test_a_missing_package_names_the_extra(
    package: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = {"gcsfs": "gs://b/x", "fsspec": "memory://b/x"}[package]
    for name in [name for name in sys.modules if name.startswith(module)]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError) as raised:
        storage.read_bytes(place)
    assert str(raised.value) == (
        f"{place} needs {package}, which is not installed: pip install 'stemforge[gs]'"
    )


class Failing(MemoryFileSystem):  # type: ignore[misc]
    """Raises what its place names."""

    protocol = "failing"
    errors: dict[str, Exception] = {  # noqa: RUF012 (a table)
        "folder": PermissionError(13, "Permission denied"),
        "permission": OSError("Forbidden: b/x\nno access"),
        "silent": RuntimeError(),
        "full": OSError(28, "No space left on device"),
    }

    def cat_file(self, path: str, *_: Any, **__: Any) -> bytes:
        raise self.errors[storage.name(path)]

    def ls(self, path: str, **_: Any) -> list[dict[str, Any]]:
        if storage.name(path) in self.errors:
            raise self.errors[storage.name(path)]
        return [{"name": f"{path}/{name}", "type": "directory"} for name in self.errors]


@pytest.fixture
def failing() -> None:
    fsspec.register_implementation("failing", Failing, clobber=True)


@pytest.mark.usefixtures("failing")
def test_whatever_a_filesystem_raises_is_one_line() -> None:
    for name, why in (("permission", "Forbidden: b/x no access"), ("silent", "RuntimeError")):
        with pytest.raises(UserError) as raised:
            storage.read_bytes(f"failing://{name}")
        assert str(raised.value) == f"failing://{name}: cannot be reached or read: {why}"


@pytest.mark.usefixtures("failing")
def test_a_folder_that_cannot_be_listed_is_not_left_out() -> None:
    with pytest.raises(UserError, match=r"failing://root: cannot be reached or read: .*denied"):
        storage.list_files("failing://root")


@pytest.mark.usefixtures("failing")
def test_a_full_disk_of_this_machine_is_no_fault_of_the_place() -> None:
    with pytest.raises(OSError, match="No space left") as raised:
        storage.read_bytes("failing://full")
    assert raised.value.errno in storage.DISK_ERRORS

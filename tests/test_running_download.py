"""Downloads from a server on loopback that breaks off, forgets, or has another file now."""

import re
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from stemforge.errors import UserError
from stemforge.pipelines.running.download import fetch_file
from stemforge.pipelines.running.work import SPARE_BYTES
from tests.processes import FileServer, file_server, free_port

DATA = np.random.default_rng(1).bytes(300_000)
OTHER = np.random.default_rng(2).bytes(250_000)
PLACE = Path("file.zip")


def refused(url: str) -> str:
    with pytest.raises(UserError) as caught:
        fetch_file(url, PLACE, advice="fetch it elsewhere")
    assert not PLACE.exists()
    return str(caught.value)


def fetched(url: str) -> bytes:
    fetch_file(url, PLACE, advice="fetch it elsewhere")
    assert [path.name for path in Path().iterdir()] == ["file.zip"]  # and nothing beside it
    return PLACE.read_bytes()


def test_a_broken_transfer_is_resumed_at_its_last_byte(in_tmp: Path) -> None:
    with file_server(FileServer(DATA, cuts=[100_000, 50_000])) as server:
        assert fetched(server.url) == DATA
    assert server.asked == ["", "bytes=100000-", "bytes=150000-"]


def test_a_server_that_stops_for_ever_ends_it_and_the_next_call_resumes(in_tmp: Path) -> None:
    with file_server(FileServer(DATA, cuts=[100_000, 0])) as server:
        assert refused(server.url) == (
            f"{server.url}: the transfer ended after 100000 of 300000 bytes: try again later, or "
            "fetch it elsewhere"
        )
        assert fetched(server.url) == DATA
    assert server.asked == ["", "bytes=100000-", "bytes=100000-"]


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"1"'}], ids=["no mark", "a weak mark"])
def test_what_cannot_be_told_from_another_version_starts_over(
    in_tmp: Path, headers: dict[str, str]
) -> None:
    with file_server(FileServer(DATA, headers=headers, cuts=[100_000])) as server:
        assert fetched(server.url) == DATA
    assert server.asked == ["", ""]


def test_a_server_without_range_starts_over(in_tmp: Path) -> None:
    date = {"Last-Modified": "Thu, 26 Nov 2020 10:00:00 GMT"}
    with file_server(FileServer(DATA, headers=date, ranges=False, cuts=[100_000])) as server:
        assert fetched(server.url) == DATA
    assert server.asked == ["", "bytes=100000-"]


@pytest.mark.parametrize("polite", [True, False], ids=["If-Range", "no If-Range"])
def test_two_versions_are_never_mixed(in_tmp: Path, polite: bool) -> None:
    with file_server(FileServer(DATA, cuts=[100_000, 0])) as server:
        refused(server.url)
        server.data, server.headers = OTHER, {"ETag": '"2"'}
        if not polite:
            server.headers["X-Accepts"] = '"1"'  # any mark is taken for the file's own
        assert fetched(server.url) == OTHER
    assert server.asked[2:] == (["bytes=100000-"] if polite else ["bytes=100000-", ""])


def test_a_part_of_another_address_is_not_resumed(in_tmp: Path) -> None:
    with file_server(FileServer(DATA, cuts=[100_000, 0])) as server:
        refused(server.url)
        assert fetched(f"{server.url}?other") == DATA
    assert server.asked[-1] == ""


def test_no_server_no_file_and_no_address(in_tmp: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}/file.zip"
    assert refused(url) == (
        f"{url}: cannot be reached: [Errno 111] Connection refused: fetch it elsewhere"
    )
    assert refused("file.zip") == "file.zip: not an address: expected https://HOST/FILE"
    assert re.search(r"cannot be reached: .*: fetch it elsewhere", refused("http://a b/file.zip"))
    assert not [*Path().iterdir()]


def test_a_full_disk_is_named_before_it_is_full(
    in_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(
        "stemforge.pipelines.running.work.shutil.disk_usage",
        lambda path: usage(10**9, 10**9, SPARE_BYTES + len(DATA) - 1),
    )
    with file_server(FileServer(DATA)) as server:
        assert "downloading file.zip needs 0.00 GB and" in refused(server.url)

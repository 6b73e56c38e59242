"""MUSDB18-7 by its name, from archives like musdb's; what musdb itself then finds there."""

import io
import zipfile
from collections import namedtuple
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import MagicMock

import musdb
import pytest
from ruamel.yaml import YAML

from stemforge.errors import UserError
from stemforge.pipelines.commands.main import main
from stemforge.pipelines.params import read_params
from stemforge.pipelines.running import musdb18_7
from stemforge.pipelines.running.corpora import find_test_tracks
from stemforge.pipelines.running.feature_job import corpus_job
from stemforge.pipelines.running.musdb18_7 import fetch, link_by_name
from stemforge.pipelines.running.named_corpora import resolve_name
from stemforge.pipelines.running.starter_corpus import check_corpus_root
from stemforge.pipelines.running.work import SPARE_BYTES
from tests.conftest import ROOT
from tests.processes import FileServer, file_server, free_port

# musdb's own configuration: the archive's address and the names of the validation songs.
MUSDB = YAML(typ="safe").load(Path(musdb.__path__[0], "configs", "mus.yaml"))
ENDING = ".stem.mp4"


def songs(train: int = 94, test: int = 50) -> dict[str, bytes]:
    """Names as in the archive; the contents are a few bytes and no music."""
    names = [f"train/{name}" for name in MUSDB["validation_tracks"][:train]]
    names += [f"train/Song {n:02d}" for n in range(train - len(names))]
    names += [f"test/Song {n:02d}" for n in range(94, 94 + test)]
    return {f"{name}{ENDING}": f"sound of {name}".encode() * 9 for name in names}


def packed(files: Mapping[str, bytes]) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return written.getvalue()


@pytest.fixture
def home(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of nobody's; the current folder is another."""
    monkeypatch.setenv("HOME", str(in_tmp / "home"))
    (in_tmp / "checkout").mkdir()
    monkeypatch.chdir(in_tmp / "checkout")
    return in_tmp / "home"


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_the_archive_lies_where_musdb_finds_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extras = {"train/": b"", "__MACOSX/train/._Song 01.stem.mp4": b"x", "test/.DS_Store": b"x"}
    with file_server(FileServer(packed(extras | songs()))) as server:
        folder = fetch(server.url)
        assert fetch(server.url) == folder
    assert server.asked == [""]  # once
    assert contents(folder) == songs()
    assert {path.name for path in folder.parent.iterdir()} == {folder.name, ".MUSDB18-7.lock"}
    # musdb asks ffprobe for each song's length, and these are no music.
    monkeypatch.setattr("stempeg.Info", lambda path: MagicMock(samples=lambda stream: 0))
    theirs = musdb.DB(download=True)  # it would fetch them, were they not there
    assert Path(theirs.root) == folder
    assert {f"{t.subset}/{t.name}{ENDING}" for t in theirs} == set(songs())
    assert len(musdb.DB(download=True, subsets="train", split="valid")) == 14
    assert MUSDB["sample-url"] == musdb18_7.URL


def refused(url: str) -> str:
    with pytest.raises(UserError) as caught:
        fetch(url)
    return str(caught.value)


def damaged(data: bytes) -> bytes:
    """A byte of the first song is another."""
    place = data.index(b"sound of train")
    return data[:place] + b"S" + data[place + 1 :]


def encrypted(data: bytes) -> bytes:
    """The first file's entry in the directory says that it is (bit 0 of its flags)."""
    place = data.index(b"PK\x01\x02") + 8
    return data[:place] + b"\x01" + data[place + 1 :]


def stored(files: Mapping[str, bytes]) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return written.getvalue()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"<html>Sign in to this network</html>", "File is not a zip file"),
        (packed(songs())[:-300], "File is not a zip file"),
        (damaged(stored(songs())), "Bad CRC-32 for file 'train/Actions - One Minute Smile"),
        (encrypted(packed(songs())), "is encrypted, password required"),
        (packed(songs(train=3)), "it holds 3 songs in train/ and 50 songs in test/, not 94 and 50"),
        (packed(songs(test=51)), "it holds 94 songs in train/ and 51 songs in test/, not 94"),
        (
            packed({name.replace("Sirens", "Mermaids"): data for name, data in songs().items()}),
            "train/Traffic Experiment - Sirens.stem.mp4 is not in it",
        ),
        (packed({"../train/x": b"", **songs()}), "'../train/x' in it would lie outside"),
        (packed({"/etc/x": b"", **songs()}), "'/etc/x' in it would lie outside"),
        (packed({"train/..\\..\\x": b"", **songs()}), "would lie outside"),
    ],
    ids=[
        "html",
        "cut",
        "CRC",
        "encrypted",
        "few",
        "many",
        "other",
        "above",
        "absolute",
        "backslash",
    ],
)
def test_another_archive_leaves_nothing(home: Path, data: bytes, why: str) -> None:
    with file_server(FileServer(data)) as server:
        said = refused(server.url)
    assert said.startswith(f"{server.url}: not the archive of MUSDB18-7: ")
    assert why in said
    assert said.endswith("nothing was kept: try again, or give another --url to `stemforge corpus`")
    assert {*contents(home)} == {"MUSDB18/.MUSDB18-7.lock"}
    with file_server(FileServer(packed(songs()))) as server:
        assert contents(fetch(server.url)) == songs()


def test_offline(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"http://127.0.0.1:{free_port()}/file.zip"
    assert main(["corpus", "musdb18-7", "--url", url]) == 2
    place = home / "MUSDB18" / "MUSDB18-7"
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"stemforge: error: {url}: cannot be reached: [Errno 111] Connection refused: download it "
        f"elsewhere and unzip it into {place}, so that train/ and test/ are there, or set "
        "corpus.root to another folder"
    )
    assert not place.exists()


def test_a_killed_runs_download_is_unpacked(home: Path) -> None:
    (home / "MUSDB18").mkdir(parents=True)
    (home / "MUSDB18" / ".MUSDB18-7.zip").write_bytes(packed(songs()))
    left = home / "MUSDB18" / ".MUSDB18-7.tmp" / "train"
    left.mkdir(parents=True)
    (left / "half.stem.mp4").touch()
    assert contents(fetch(f"http://127.0.0.1:{free_port()}/file.zip")) == songs()


def test_two_at_a_time_fetch_it_once(home: Path) -> None:
    with (
        file_server(FileServer(packed(songs()), pause_s=0.3)) as server,
        ThreadPoolExecutor() as pool,
    ):
        first, second = pool.map(fetch, [server.url, server.url])
    assert server.asked == [""]
    assert contents(first) == contents(second) == songs()


def test_no_room_keeps_the_archive(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = packed(songs())
    usage = namedtuple("usage", "total used free")
    assert len(data) < sum(map(len, songs().values()))
    with monkeypatch.context() as patch, file_server(FileServer(data)) as server:
        patch.setattr(
            "stemforge.pipelines.running.work.shutil.disk_usage",
            lambda path: usage(10**9, 10**9, SPARE_BYTES + len(data)),
        )
        assert "MUSDB18-7: unpacking MUSDB18-7 needs" in refused(server.url)
    assert not (home / "MUSDB18" / "MUSDB18-7").exists()
    assert contents(fetch(server.url)) == songs()  # the server is gone


def test_what_is_there_is_used_and_said(
    home: Path, tiny_corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = home / "MUSDB18" / "MUSDB18-7"
    place.parent.mkdir(parents=True)
    place.symlink_to(tiny_corpus)  # people's way to another disk
    url = f"http://127.0.0.1:{free_port()}/file.zip"
    assert main(["corpus", "musdb18-7", "--url", url]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{tiny_corpus.resolve()}\n"
    # The corpus' three songs and one of 3 s.
    assert printed.err.splitlines() == [
        f"{tiny_corpus.resolve()}: has songs: nothing is fetched from {url}",
        f"{tiny_corpus.resolve()}: 3 training songs, 1 test song of 3.0 s",
        f"{tiny_corpus.resolve()}: 140 songs are missing: move it away to fetch all of them",
    ]


def test_a_command_finds_the_corpus_by_its_name(home: Path, tiny_corpus: Path) -> None:
    stems = ("vocals", "drums", "bass", "other")
    with pytest.raises(UserError) as caught:
        find_test_tracks("musdb18-7", stems)
    assert str(caught.value) == (
        "--corpus musdb18-7: not on this machine: fetch it by `stemforge corpus musdb18-7`"
    )
    place = home / "MUSDB18" / "MUSDB18-7"
    place.parent.mkdir(parents=True)
    place.symlink_to(tiny_corpus)
    (track,), _ = find_test_tracks("musdb18-7", stems)
    assert Path(track.places[0]).parent.parent == tiny_corpus.resolve()
    Path("musdb18-7").mkdir()  # a folder of one's own goes first
    assert resolve_name("musdb18-7", label="") == "musdb18-7"


def test_the_feature_job_finds_it_by_its_name(
    home: Path, tiny_corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params = read_params(ROOT / "params.yaml")
    with pytest.raises(UserError, match="--corpus musdb18-7: not on this machine: fetch it by"):
        corpus_job(params, "musdb18-7")
    place = home / "MUSDB18" / "MUSDB18-7"
    place.parent.mkdir(parents=True)
    place.symlink_to(tiny_corpus)
    assert corpus_job(params, "musdb18-7").root == str(tiny_corpus.resolve())
    assert capsys.readouterr().err == (
        f"{tiny_corpus.resolve()}: 3 training songs (1 of them validation), 1 test song of 3.0 s\n"
    )


@pytest.mark.parametrize("linked", [False, True])
def test_stage_corpus_says_what_is_missing(
    home: Path, capsys: pytest.CaptureFixture[str], *, linked: bool
) -> None:
    """An archive that was unzipped by hand, up to its 93rd song."""
    place = home / "MUSDB18" / "MUSDB18-7"
    for name in [*songs()][:93]:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).touch()
    if linked:
        Path("musdb18-7").symlink_to(place)
    link_by_name("musdb18-7")
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"{place}: 51 songs are missing: move it away to fetch all of them"
    assert len(said) == 2 - linked


def test_something_else_is_there(home: Path, in_tmp: Path) -> None:
    place = home / "MUSDB18" / "MUSDB18-7"
    (place / "notes").mkdir(parents=True)
    assert refused("http://127.0.0.1:1/").startswith(f"{place}: holds no *.stem.mp4 in train/ or")
    (place / "notes").rmdir()
    place.rmdir()
    place.symlink_to(in_tmp / "disk")
    assert refused("http://127.0.0.1:1/") == (
        f"{place}: a link to {in_tmp / 'disk'}, which does not exist: make that folder"
    )
    (in_tmp / "disk").mkdir()
    with file_server(FileServer(packed(songs()))) as server:
        fetch(server.url)
    assert contents(in_tmp / "disk") == songs()


def test_the_checkouts_own_folder_of_that_name_is_used(home: Path, tiny_corpus: Path) -> None:
    Path("musdb18-7").mkdir()
    link_by_name("musdb18-7")
    link_by_name("nowhere")
    assert [path.name for path in Path().iterdir()] == ["musdb18-7"]
    assert not Path("musdb18-7").is_symlink()
    Path("musdb18-7").rmdir()
    Path("musdb18-7").symlink_to("gone")
    place = home / "MUSDB18" / "MUSDB18-7"
    place.parent.mkdir(parents=True)
    place.symlink_to(tiny_corpus)
    link_by_name("musdb18-7")
    assert Path("musdb18-7").resolve() == tiny_corpus.resolve()
    with pytest.raises(UserError, match=r"MUSDB18-7: no such folder: the corpus by name is musdb"):
        check_corpus_root("MUSDB18-7")

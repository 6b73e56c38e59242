"""`stemforge export` and `convert-spleeter`, with what users get wrong."""

import dataclasses
import hashlib
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from benchmarks.common import served
from stemforge.eval.exports import files as export
from stemforge.eval.exports.bounds import Bounds
from stemforge.eval.separation.separator import Separator
from stemforge.pipelines.commands import main as cli
from stemforge.pipelines.pretrained import catalogue
from stemforge.train.model import save_model
from stemforge.train.model_files import find_model_folders
from tests.conftest import RATE_HZ, ROOT
from tests.test_exports_files import NET, make

CHECKPOINT = ROOT / "tests" / "golden" / "spleeter-4stems"


@pytest.fixture
def models(in_tmp: Path) -> Path:
    for number, stem in enumerate(("drums", "vocals")):
        folder = in_tmp / "models" / stem
        folder.mkdir(parents=True)
        save_model(folder, make((stem,), seed=number))
    return in_tmp / "models"


def run(*arguments: object, code: int = 0) -> None:
    assert cli.main([str(a) for a in arguments]) == code


def files(folder: Path) -> set[str]:
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return {name for name in names if not name.startswith(("saved_model/", "vectors/"))}


@pytest.mark.system  # every format of two nets
def test_everything_is_written_and_proven(models: Path) -> None:
    # The same folder twice is one model.
    run("export", "models", "models/drums", "--output", "out", "--frames", "16,32")
    assert files(Path("out")) == {
        *("parity.json", "separate-16.tflite", "separate-32.tflite"),
        *(
            f"{stem}/{stem}-{kind}.tflite"
            for stem in ("drums", "vocals")
            for kind in ("float32", "float16", "int8-weights", "int8-mixed")
        ),
    }
    parity = json.loads(Path("out/parity.json").read_text())
    assert set(parity) == (files(Path("out")) - {"parity.json"}) | {
        "saved_model, estimate",
        "saved_model, separate",
    }
    for found in parity.values():
        for values in found.values():
            assert values["finite"]
            assert -0.1 < values["sdr_change_db"] < 0.1
    assert Path("out/vectors/vectors.npz").is_file()


@pytest.mark.system  # each file is timed in processes of its own
def test_what_the_mixed_file_loses_is_said_and_the_file_left_out(
    models: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # capfd: what is held back from file descriptor 2 must not be this.
    from stemforge.pipelines.running import exporting

    monkeypatch.setattr(exporting, "Bounds", lambda: Bounds(max_difference_tflite_int8_mixed=1e-9))
    run("export", "models/drums", "--output", "out", "--frames", "16", "--timings")
    timings = json.loads(Path("out/timings.json").read_text())
    assert set(timings) == {"saved_model"} | files(Path("out")) - {"parity.json", "timings.json"}
    for name, values in timings.items():
        assert values["size_mb"] > 0.01, name
        assert min(values["latency_1_s"], values["latency_2_s"], values["start_up_s"]) > 0.0
        assert values["peak_memory_mb"] > 20.0
    assert "out/drums/drums-int8-mixed.tflite" not in files(Path())
    assert "more than max_difference_tflite_int8_mixed=1.0e-09" in capfd.readouterr().err
    parity = json.loads(Path("out/parity.json").read_text())
    assert (
        "relative rms difference from the trained nets"
        in parity["drums/drums-int8-mixed.tflite"]["drums"]["refused"]
    )


def test_what_users_get_wrong(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*arguments: object) -> str:
        run(*arguments, code=2)
        assert not Path("out").exists()
        assert not list(Path().glob(".*.tmp"))
        return capsys.readouterr().err

    assert "nowhere: no such folder" in refused("export", "nowhere", "--output", "out")
    joint = Path("group/joint")
    joint.mkdir(parents=True)
    (joint / "model.json").touch()
    said = refused("export", "group/vocals", "--output", "out")
    assert "group/vocals: no such folder: one model holds all stems: give group/joint" in said
    some = ("export", "models", "--output", "out", "--frames")
    assert "frames=12: must be a positive multiple of 8" in refused(*some, "12")
    assert "--frames x: must be numbers, such as 512,128" in refused(*some, "x")
    Path("other").mkdir()
    Path("other/file").touch()
    run("export", "models", "--output", "other", code=2)
    assert "other: already exists and is not empty" in capsys.readouterr().err
    card = json.loads((models / "drums" / "model.json").read_text())
    (models / "drums" / "model.json").write_text(json.dumps(card | {"version": 1}))
    assert "model version 1 is not" in refused("export", "models", "--output", "out")


@pytest.mark.system
def test_a_full_disk_leaves_nothing(in_tmp: Path) -> None:
    """No file may grow beyond 3 MB: the SavedModel's weights would."""
    net = dataclasses.replace(NET, width=16, depth=5, frames=32)
    model = make(("vocals",), net)
    (in_tmp / "vocals").mkdir()
    save_model(in_tmp / "vocals", model)
    script = (
        "import resource, signal, sys\n"
        "from stemforge.pipelines.commands.main import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", script, "export", "vocals", "--output", "out"]
    done = subprocess.run([*command, "--frames", "32"], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith("stemforge: error: ")
    assert "File too large" in done.stderr
    assert {path.name for path in in_tmp.iterdir()} == {"vocals"}


@pytest.fixture
def archive(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A release as Deezer lays it out, of a small checkpoint with four stems, and its sum."""
    folder = in_tmp / "release"
    folder.mkdir()
    with tarfile.open(folder / "4stems.tar.gz", "w:gz") as tar:
        for path in sorted(CHECKPOINT.glob("*")):
            tar.add(path, path.name)
    pin(folder / "4stems.tar.gz", monkeypatch)
    return folder / "4stems.tar.gz"


def pin(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes an archive's sum the one that is known."""
    model = catalogue.MODELS["spleeter:4stems"]
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    known = dataclasses.replace(model, archive=dataclasses.replace(model.archive, sha256=found))
    monkeypatch.setitem(catalogue.MODELS, "spleeter:4stems", known)


def test_the_wrong_sum_a_truncated_archive_and_no_server(
    archive: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(url: str) -> str:
        run("convert-spleeter", "--download", "4stems", "--base-url", url, "--output", "o", code=2)
        assert not Path("o").exists()
        return capsys.readouterr().err

    with served(archive.parent, {}) as url:
        whole = archive.read_bytes()
        archive.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        said = refused(url)
        assert "4stems.tar.gz: another file, or a damaged one: its sha256 is" in said
        archive.write_bytes(b"\n<!DOCTYPE html><title>Please log in</title>")
        said = refused(url)
        assert "answers with a web page, as proxies and login pages do: its sha256 is" in said
        archive.write_bytes(whole[: len(whole) // 2])
        assert "nothing was kept" in refused(url)
        pin(archive, monkeypatch)  # as its maker would have: the sum is right, the archive not
        assert "not readable as an archive" in refused(url)
        archive.unlink()
        assert "cannot be reached: File not found" in refused(url)
    said = refused(url)
    assert "cannot be reached: [Errno 111] Connection refused: download it elsewhere" in said
    run("convert-spleeter", "--output", "o", code=2)
    assert "either CHECKPOINT_DIR or --download" in capsys.readouterr().err


@pytest.mark.system  # the whole way of four nets
def test_an_official_checkpoint_becomes_models_and_exports(
    archive: Path, random: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stemforge.pipelines.running import spleeter_models as import_spleeter
    from stemforge.train.spleeter import configuration as spleeter_config

    # The small checkpoint's own configuration, by the official one's name.
    configuration = json.loads((CHECKPOINT / "configuration.json").read_text())
    small = spleeter_config.parse_configuration(configuration)
    monkeypatch.setattr(import_spleeter, "official_configurations", lambda: {"4stems": small})
    with served(archive.parent, {}) as url:
        run(
            *("convert-spleeter", "--download", "4stems", "--base-url", url, "--output", "out"),
            *("--frames", "64"),
        )
    stems = {"vocals", "drums", "bass", "other"}
    assert {path.name for path in Path("out/models").iterdir()} == stems
    song = random.normal(0, 0.2, (20_000, 2)).astype(np.float32)
    found = export.runner(Path("out/exports/saved_model"), export.SEPARATE)(waveform=song)
    expected = Separator.load(find_model_folders(Path("out/models"))).separate(
        song, sample_rate_hz=RATE_HZ
    )
    assert set(found) == stems
    for stem in stems:
        np.testing.assert_allclose(found[stem], expected[stem], atol=1e-5)

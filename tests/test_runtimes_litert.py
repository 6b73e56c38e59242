import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stemforge.errors import UserError
from stemforge.eval.exports import files as export
from stemforge.eval.runtimes import litert
from stemforge.eval.runtimes.litert import LiteRTNets, read_interface
from stemforge.eval.runtimes.tensorflow import TensorFlowNets
from stemforge.eval.separation.separator import Separator
from stemforge.train.model import Model, weights_of
from stemforge.train.model_files import find_tflite, tflite_name
from stemforge.train.nets.unet import UNet
from tests.conftest import RATE_HZ, ROOT
from tests.test_runtimes_tensorflow import NETS, trained
from tests.test_separation_separator import separator_of


def write(folder: Path, model: Model) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / tflite_name(model.name, "float32")
    path.write_bytes(export.to_tflite(model))
    return path


@pytest.fixture(scope="module")
def models() -> list[Model]:
    return [trained(NETS["4stems"], (stem,), seed=n) for n, stem in enumerate(("vocals", "rest"))]


@pytest.fixture(scope="module")
def exports(models: list[Model], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("exports")
    for model in models:
        write(root / model.name, model)
    return root


def test_separates_as_tensorflow_does(
    models: list[Model], exports: Path, random: np.random.Generator
) -> None:
    waveform = random.uniform(-1, 1, (90_000, 2)).astype(np.float32)
    found = Separator.load(find_tflite(exports), runtime="litert").separate(
        waveform, sample_rate_hz=RATE_HZ
    )
    truth = separator_of(models).separate(waveform, sample_rate_hz=RATE_HZ)
    assert set(found) == {"vocals", "rest"}
    for stem, estimate in found.items():
        np.testing.assert_allclose(estimate, truth[stem], atol=1e-5)
    assert np.abs(found["vocals"] - found["rest"]).max() > 0.01


@pytest.mark.parametrize("times", [0.5, 2, 3])
def test_other_frames_than_exported(
    models: list[Model], exports: Path, random: np.random.Generator, times: float
) -> None:
    (path,) = find_tflite(exports / "vocals")
    frames = round(times * models[0].net.frames)
    mixture = random.uniform(0, 5, (frames, models[0].net.bins, 2)).astype(np.float32)
    nets = LiteRTNets(path, threads=1, frames=frames)
    truth = TensorFlowNets(
        models[0].interface, models[0].net.resized(frames=frames),
        weights_of(models[0].keras_model),
    )  # fmt: skip
    assert nets.interface.frames == frames
    for _ in range(2):
        np.testing.assert_allclose(
            nets(mixture)["vocals"], truth(mixture)["vocals"], rtol=1e-4, atol=1e-4
        )
    with pytest.raises(
        UserError, match=rf"^{path}: .*its nets do not run on frames=17: use 32, as exported, or"
    ):
        LiteRTNets(path, threads=1, frames=17)


def test_a_u_net_of_spleeters_depth_sees_less_than_256_frames(
    tmp_path: Path, random: np.random.Generator
) -> None:
    """So longer windows change nothing in live separation, which uses the newest frames."""
    net = UNet(256, 64, 2, 6, "affine", 0.0, "leaky_relu", "relu", "sigmoid", "linear")
    path = write(tmp_path, trained(net, ("vocals",), seed=1))
    mixture = random.uniform(0, 5, (512, 64, 2)).astype(np.float32)
    found = {
        frames: LiteRTNets(path, threads=1, frames=frames)(mixture[-frames:])["vocals"][-24:]
        for frames in (64, 256, 512)
    }
    np.testing.assert_array_equal(found[256], found[512])
    assert not np.array_equal(found[64], found[512])


@pytest.mark.system
def test_the_command_needs_no_tensorflow(exports: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "song.wav", np.zeros((RATE_HZ, 2)) + 0.1, 22050)
    script = (
        "import sys\nfrom stemforge.pipelines.commands.main import main\n"
        f"assert main({['separate', str(tmp_path / 'song.wav')]!r} + sys.argv[1:]) == 0\n"
        "assert not {'tensorflow', 'keras', 'apache_beam'} & set(sys.modules)"
    )
    flags = ["--model", exports, "--runtime", "litert", "--output", tmp_path / "out"]
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, flags)],
        check=True, cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert "INFO" not in done.stderr
    assert soundfile.info(tmp_path / "out" / "song" / "vocals.wav").frames == RATE_HZ


def test_a_file_says_what_it_takes(models: list[Model], exports: Path) -> None:
    (path,) = (exports / "vocals").iterdir()
    assert read_interface(path) == models[0].interface
    assert find_tflite(path) == [path]
    assert find_tflite(exports / "vocals") == [path]


def test_softmax_models_are_one_file(tmp_path: Path, random: np.random.Generator) -> None:
    model = trained(NETS["softmax"], ("x", "a", "m"))
    nets = LiteRTNets(write(tmp_path, model), threads=1)
    assert nets.interface.stems == ("x", "a", "m")
    mixture = random.exponential(5.0, (16, 32, 2)).astype(np.float32)
    truth = model.keras_model(mixture[None])
    for stem, estimate in nets(mixture).items():
        np.testing.assert_allclose(estimate, np.asarray(truth[stem])[0], rtol=1e-3, atol=1e-4)


def test_files_that_are_none_of_ours(models: list[Model], exports: Path, tmp_path: Path) -> None:
    (good,) = (exports / "vocals").iterdir()
    cases = {
        "empty.tflite": (b"", "not a TFLite file"),
        "text.tflite": (b"no model at all", "not a TFLite file"),
        "bare.tflite": (
            good.read_bytes().replace(litert.METADATA.encode(), b"somethin "[:9]),
            "not a TFLite file of stemforge",
        ),
    }
    for name, (content, problem) in cases.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(UserError, match=f"{name}: .*{problem}"):
            Separator.load([path], runtime="litert")
    with pytest.raises(UserError, match=r"none.tflite: no such file"):
        read_interface(tmp_path / "none.tflite")
    with pytest.raises(UserError, match=r"no \*-float32.tflite in it"):
        find_tflite(tmp_path)
    with pytest.raises(UserError, match="the files fix precision"):
        Separator.load([good], runtime="litert", precision="bfloat16")

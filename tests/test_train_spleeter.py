"""Deezer's checkpoints: against what Spleeter itself returned, and by hand."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from eval.separation import Separator
from features.errors import UserError
from features.models import read_card
from pipelines import cli
from tests.conftest import SHARED
from train import spleeter, unet
from train.spleeter import Configuration

OFFICIAL = SHARED / "models" / "spleeter-2stems"
GOLDEN = SHARED / "golden" / "spleeter-2stems-francium-13s.npz"
needs_official = pytest.mark.skipif(
    not (OFFICIAL.is_dir() and GOLDEN.is_file()), reason="needs ../shared/models and golden"
)


@needs_official
def test_separation_equals_spleeters_own(tmp_path: Path) -> None:
    assert cli.main(["import-spleeter", str(OFFICIAL), "--output", str(tmp_path)]) == 0
    golden = np.load(GOLDEN)
    separator = Separator.load([tmp_path / "vocals", tmp_path / "accompaniment"])
    found = separator.separate(golden["mixture"], sample_rate_hz=44100)
    for stem, estimate in found.items():
        truth = golden[stem].astype(np.float64)
        difference = estimate - truth
        assert np.abs(difference).max() < 1e-4
        assert 10 * np.log10(np.sum(truth**2) / np.sum(difference**2)) > 90
    card = read_card(tmp_path / "vocals")
    assert card["provenance"]["not_imported"] == [
        "global_step", "batch_normalization_5", "batch_normalization_17"
    ]  # fmt: skip


@needs_official
def test_what_is_there_is_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "vocals").mkdir()
    assert cli.main(["import-spleeter", str(OFFICIAL), "--output", str(tmp_path)]) == 2
    assert "vocals: already there" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["vocals"]


def random_checkpoint(stems: int) -> dict[str, np.ndarray]:
    """Variables under the official names, numbered on from stem to stem, all different."""
    random = np.random.default_rng(7)
    net = unet.build(unet.Net(64, 64, 16, 6, "affine", 0.0, "elu", "elu"))
    shapes = {weight.path: tuple(weight.shape) for weight in net.weights}
    values: dict[str, np.ndarray] = {"global_step": np.array(1, np.int64)}

    def add(layer: str, number: int, part: str, shape: tuple[int, ...]) -> None:
        name = f"{layer}_{number}" if number else layer
        values[f"{name}/{part}"] = random.uniform(0.5, 1.5, shape).astype(np.float32)

    for stem in range(stems):
        for number, ours in enumerate([*(f"encoder_{k}" for k in range(6)), "mask"]):
            for part in ("kernel", "bias"):
                add("conv2d", 7 * stem + number, part, shapes[f"{ours}/{part}"])
        for number in range(6):
            for part in ("kernel", "bias"):
                shape = shapes[f"decoder_{number}/{part}"]
                add("conv2d_transpose", 6 * stem + number, part, shape)
        widths = [16, 32, 64, 128, 256, 512, 256, 128, 64, 32, 16, 1]
        for number, width in enumerate(widths):
            for part in ("gamma", "beta", "moving_mean", "moving_variance"):
                add("batch_normalization", 12 * stem + number, part, (width,))
    return values


def test_four_stems_are_numbered_on() -> None:
    values = random_checkpoint(4)
    configuration = spleeter.infer_configuration(values)
    assert configuration.stems == ("vocals", "drums", "bass", "other")
    assert configuration.encoder_activation == configuration.decoder_activation == "elu"
    models = spleeter.import_models(values, configuration, provenance={})
    bass = unet.weights(models[2].keras_model)
    np.testing.assert_array_equal(bass["encoder_0/kernel"], values["conv2d_14/kernel"])
    np.testing.assert_array_equal(bass["mask/bias"], values["conv2d_20/bias"])
    np.testing.assert_array_equal(bass["decoder_5/kernel"], values["conv2d_transpose_17/kernel"])
    # The first decoder norm of the third stem: 2 * 12 + 6, with its statistics folded in.
    gamma, beta, mean, variance = (
        values[f"batch_normalization_30/{part}"].astype(np.float64)
        for part in ("gamma", "beta", "moving_mean", "moving_variance")
    )
    x = np.linspace(-3, 3, 256)
    truth = gamma * (x - mean) / np.sqrt(variance + 1e-3) + beta
    ours = bass["decoder_norm_0/gamma"] * x / np.sqrt(1.001) + bass["decoder_norm_0/beta"]
    np.testing.assert_allclose(ours, truth, rtol=1e-5, atol=1e-5)


def test_nothing_is_left_over_or_made_up() -> None:
    values = random_checkpoint(2)
    two = spleeter.infer_configuration(values)
    one = Configuration(("vocals",), "elu", "elu")
    with pytest.raises(UserError, match=r"variables of the checkpoint belong to no stem, such as"):
        spleeter.import_models(values, one, provenance={})
    with pytest.raises(UserError, match="belong to no stem, such as extra/kernel"):
        spleeter.import_models({**values, "extra/kernel": np.zeros(3)}, two, provenance={})
    four = spleeter.official_configurations()["4stems"]
    with pytest.raises(UserError, match=r"has no conv2d_14/kernel, which stem 2 needs"):
        spleeter.import_models(values, four, provenance={})
    short = {**values, "conv2d_3/bias": np.zeros(5, np.float32)}
    with pytest.raises(UserError, match=r"stem 0: encoder_3/bias has shape \(5,\), not \(128,\)"):
        spleeter.import_models(short, two, provenance={})
    with pytest.raises(UserError, match="holds 3 nets: no official model"):
        spleeter.infer_configuration(random_checkpoint(3))


def test_configurations(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    data = {
        "sample_rate": 44100, "n_channels": 2, "T": 512, "F": 1536, "frame_length": 4096,
        "frame_step": 1024, "instrument_list": ["a", "b"],
        "model": {"type": "unet.unet", "params": {"conv_activation": "ELU"}},
    }  # fmt: skip
    path.write_text(json.dumps(data))
    found = spleeter.read_configuration(path)
    assert (found.stems, found.bins) == (("a", "b"), 1536)
    assert (found.encoder_activation, found.decoder_activation) == ("elu", "relu")
    data["model"] = {"type": "unet.softmax_unet"}
    path.write_text(json.dumps(data))
    with pytest.raises(UserError, match="one softmax over all stems"):
        spleeter.read_configuration(path)
    del data["T"]
    data["model"] = {"type": "unet.unet"}
    path.write_text(json.dumps(data))
    with pytest.raises(UserError, match="no or unknown 'T'"):
        spleeter.read_configuration(path)
    with pytest.raises(UserError, match="no such file"):
        spleeter.read_configuration(tmp_path / "nowhere.json")


def test_damaged_and_missing_checkpoints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["import-spleeter", str(tmp_path / "c"), "--output", str(tmp_path / "out")]
    assert cli.main(command) == 2
    assert "no checkpoint in it" in capsys.readouterr().err
    values = random_checkpoint(2)
    (tmp_path / "c").mkdir()
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "c" / "model"),
        tensor_names=list(values),
        shape_and_slices=[""] * len(values),
        tensors=[tf.constant(value) for value in values.values()],
    )
    (tmp_path / "c" / "checkpoint").write_text('model_checkpoint_path: "model"\n')
    assert cli.main(command) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "accompaniment", "vocals"
    ]  # fmt: skip
    shutil.rmtree(tmp_path / "out")
    assert cli.main([*command, "--stems", "a,b", "--activation", "elu"]) == 0
    card = read_card(tmp_path / "out" / "b")
    assert (card["stem"], card["net"]["decoder_activation"]) == ("b", "elu")
    shutil.rmtree(tmp_path / "out")
    assert cli.main([*command, "--stems", "a,a", "--activation", "elu"]) == 2
    assert "stem 'a': each needs a name of its own" in capsys.readouterr().err
    assert cli.main([*command, "--stems", "a,b"]) == 2
    assert "--stems and --activation go together" in capsys.readouterr().err
    data = next((tmp_path / "c").glob("model.data-*"))
    data.write_bytes(data.read_bytes()[:1000])
    assert cli.main(command) == 2
    assert "not a readable checkpoint" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

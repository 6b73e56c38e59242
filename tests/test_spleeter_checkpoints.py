"""Deezer's checkpoints: against what Spleeter itself returned, and by hand."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from stemforge.errors import UserError
from stemforge.eval.separation.separator import Separator
from stemforge.pipelines.commands import main as cli
from stemforge.pipelines.params import read_params
from stemforge.train.model import load_model, weights_of
from stemforge.train.model_files import read_card
from stemforge.train.nets.unet import UNet
from stemforge.train.spleeter import checkpoints as spleeter
from stemforge.train.spleeter.configuration import (
    Configuration,
    make_net,
    official_configurations,
    parse_configuration,
    read_json,
    training_parameters,
)
from tests.conftest import ROOT, SHARED
from tests.golden import spleeter_rules as rules

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
        assert np.abs(difference).max() < 5e-5
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
    assert "vocals: already exists" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["vocals"]


def random_checkpoint(stems: int) -> dict[str, np.ndarray]:
    """Variables under the official names, numbered on from stem to stem, all different."""
    random = np.random.default_rng(7)
    net = UNet(64, 64, 16, 6, "affine", 0.0, "elu", "elu", "sigmoid", "linear").build(["stem"])
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
    assert configuration.net.encoder_activation == configuration.net.decoder_activation == "elu"
    models = spleeter.import_models(values, configuration, provenance={})
    bass = weights_of(models[2].keras_model)
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
    one = Configuration(("vocals",), make_net("elu", "elu"))
    with pytest.raises(UserError, match=r"variables of the checkpoint belong to no stem, such as"):
        spleeter.import_models(values, one, provenance={})
    with pytest.raises(UserError, match="belong to no stem, such as extra/kernel"):
        spleeter.import_models({**values, "extra/kernel": np.zeros(3)}, two, provenance={})
    four = official_configurations()["4stems"]
    with pytest.raises(UserError, match=r"has no conv2d_14/kernel, which stem 2 needs"):
        spleeter.import_models(values, four, provenance={})
    short = {**values, "conv2d_3/bias": np.zeros(5, np.float32)}
    with pytest.raises(UserError, match=r"stem 0: encoder_3/bias has shape \(5,\), not \(128,\)"):
        spleeter.import_models(short, two, provenance={})
    with pytest.raises(UserError, match="has 3 nets, unlike all official ones"):
        spleeter.infer_configuration(random_checkpoint(3))


@pytest.mark.parametrize(
    ("name", "model_names"),
    [
        ("spleeter-4stems", ["vocals", "drums", "bass", "other"]),
        ("spleeter-5stems", ["joint"]),
    ],
)
def test_spleeters_own_graph_estimates_the_same(
    name: str, model_names: list[str], tmp_path: Path
) -> None:
    golden = ROOT / "tests" / "golden" / name
    command = ["import-spleeter", str(golden), "--output", str(tmp_path / "m")]
    assert cli.main([*command, "--configuration", str(golden / "configuration.json")]) == 0
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == sorted(model_names)
    estimates = np.load(golden / "estimates.npz")
    seen = []
    for model_name in model_names:
        model = load_model(tmp_path / "m" / model_name)
        for stem, found in model.keras_model(rules.batch("mix", 0)).items():
            np.testing.assert_allclose(found, estimates[stem], rtol=1e-5, atol=1e-5)
            seen.append(stem)
    assert sorted(seen) == sorted(estimates.files)
    # The stems differ by far more than the tolerance.
    assert np.abs(estimates["vocals"] - estimates["drums"]).max() > 0.1


JSON = {
    "train_csv": "lists/train.csv", "validation_csv": "lists/valid.csv", "model_dir": "m",
    "mix_name": "mix", "instrument_list": ["a", "b"], "sample_rate": 44100, "frame_length": 4096,
    "frame_step": 1024, "T": 512, "F": 1536, "n_channels": 2, "n_chunks_per_song": 1,
    "separation_exponent": 2, "mask_extension": "zeros", "learning_rate": 2e-4, "batch_size": 6,
    "training_cache": "t", "validation_cache": "v", "train_max_steps": 70000,
    "throttle_secs": 600, "random_seed": 3, "save_checkpoints_steps": 300,
    "save_summary_steps": 5,
    "model": {"type": "unet.unet", "params": {"conv_activation": "ELU"}},
}  # fmt: skip


def test_configurations(tmp_path: Path) -> None:
    found = parse_configuration(JSON)
    assert (found.stems, found.net.bins, found.net.width) == (("a", "b"), 1536, 16)
    # Spleeter's default where the decoder's activation is not given.
    assert (found.net.encoder_activation, found.net.decoder_activation) == ("elu", "relu")
    softmax = {**JSON, "model": {"type": "unet.softmax_unet", "params": {}}}
    assert parse_configuration(softmax).net.head == "softmax"
    for change, problem in (
        ({"model": {"type": "blstm.blstm"}}, "model.type=blstm.blstm: not supported"),
        ({"model": {"type": "unet.unet", "params": {"conv_activation": "ELu"}}},
         "conv_activation=ELu: not supported; supported: ELU, ReLU, LeakyReLU"),
        ({"model": {"type": "unet.unet", "params": {"lstm_units": 3}}},
         "model.params.lstm_units=3: not supported"),
        ({"model": {"type": "unet.unet", "params": {"conv_n_filters": [1, 2, 3, 4, 5, 6]}}},
         "conv_n_filters=.*: not supported; supported: six"),
        ({"n_channels": 1}, "n_channels=1: only 2"),
        ({"instrument_list": ["lead/vox", "b"]}, "instrument_list: 'lead/vox': not a valid name"),
        ({"instrument_list": "vocals"}, "instrument_list='vocals': must be a list"),
        ({"T": "512"}, "T='512': must be a whole number"),
        ({"frame_step": 1000}, "frame_step_samples=1000: must divide frame_length_samples=4096"),
        ({"model": []}, r"model=\[\]: must be an object"),
        ({"model": {"type": ["unet.unet"]}}, r"type=\['unet.unet'\]: must be a text"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=problem):
            parse_configuration({**JSON, **change})
    with pytest.raises(UserError, match="no key 'T'"):
        parse_configuration({key: value for key, value in JSON.items() if key != "T"})
    with pytest.raises(UserError, match="no such file"):
        read_json(tmp_path / "nowhere.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(UserError, match="not JSON"):
        read_json(tmp_path / "bad.json")


def test_a_configuration_becomes_params(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(JSON), encoding="utf-8-sig")
    out = tmp_path / "params.yaml"
    command = ["import-config", str(tmp_path / "config.json"), "--output", str(out),
               "--data", "audio", "--base", str(ROOT / "params.yaml")]  # fmt: skip
    assert cli.main(command) == 0
    remarks = capsys.readouterr().err
    assert "n_chunks_per_song=1: windows are drawn from whole songs" in remarks
    params = read_params(out)
    assert (params.corpus.root, params.corpus.train_csv) == ("audio", "../lists/train.csv")
    assert params.corpus.stems == params.models == ["a", "b"]
    assert (params.features.bins, params.features.encoding) == (1536, "uint8")
    train = params.train
    assert train.net == UNet(512, 1536, 16, 6, "affine", 0.0, "elu", "relu", "sigmoid", "linear")
    assert (train.steps, train.batch_size, train.learning_rate) == (70000, 6, 2e-4)
    assert (train.sampling, train.optimizer, train.loss) == ("songs", "adam", {"l1": 1.0})
    assert params.monitor.checkpoint_every_steps == 300
    assert (train.log_every_steps, train.seed) == (5, 3)
    assert "# The nets. Spleeter: leaky_relu/relu" in out.read_text()  # comments stay
    assert cli.main(command) == 2
    assert "already exists" in capsys.readouterr().err
    out.unlink()
    for change, problem in (
        ({"optimizer": "RMSProp"}, "optimizer=RMSProp: not supported; supported: Adam"),
        ({"window_exponent": 2}, "window_exponent=2: not supported"),
        ({"mask_extension": "average"}, "mask_extension='average': only zeros is supported"),
        ({"loss_type": "L2"}, "loss_type=L2: not supported"),
        ({"train_max_steps": 0}, "train.steps=0"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({**JSON, **change}))
        assert cli.main(command) == 2
        assert problem in capsys.readouterr().err
        assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json"]
    adadelta, _ = training_parameters({**JSON, "optimizer": "Adadelta"})
    assert adadelta["train"]["learning_rate"] == 1e-3  # not the configuration's


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
    (tmp_path / "c" / "._model.data-00000-of-00001").write_bytes(b"macOS")
    assert cli.main(command) == 0
    sums = read_card(tmp_path / "out" / "vocals")["provenance"]["sha256"]
    assert [*sums] == ["model.data-00000-of-00001"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "accompaniment", "vocals"
    ]  # fmt: skip
    shutil.rmtree(tmp_path / "out")
    assert cli.main([*command, "--stems", "a,b", "--activation", "elu"]) == 0
    card = read_card(tmp_path / "out" / "b")
    assert (card["stems"], card["net"].decoder_activation) == (["b"], "elu")
    shutil.rmtree(tmp_path / "out")
    assert cli.main([*command, "--stems", "a,a", "--activation", "elu"]) == 2
    assert "--stems a,a: a is there twice" in capsys.readouterr().err
    assert cli.main([*command, "--stems", "a,b"]) == 2
    assert "--stems needs --activation" in capsys.readouterr().err
    data = next((tmp_path / "c").glob("model.data-*"))
    data.write_bytes(data.read_bytes()[:1000])
    assert cli.main(command) == 2
    assert "not a readable checkpoint" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

"""What holds for every kind of net, and each new net against formulas by hand."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from stemforge.errors import UserError
from stemforge.eval.exports import files as export
from stemforge.eval.runtimes.litert import SIGNATURE, LiteRTNets
from stemforge.eval.runtimes.tensorflow import load_nets
from stemforge.pipelines.commands.main import main as command
from stemforge.train.batch import Batch
from stemforge.train.cluster import Cluster
from stemforge.train.model import Model, load_model, save_model, weights_of
from stemforge.train.nets import NETS, read_net
from stemforge.train.nets.protocol import Net
from stemforge.train.nets.recurrent_unet.layers import CentreScale, Latent
from stemforge.train.step import Step
from tests.conftest import RATE_HZ
from tests.test_exports_files import operators
from tests.test_train_trainer import optimization

FRAMES, BINS = 8, 64
MIDDLE = {"width": 2, "depth": 2, "centre_scale": True, "hidden": 4, "layers": 2}
TINY: dict[str, dict[str, Any]] = {
    "unet": {
        "width": 4, "depth": 3, "norm": "instance", "dropout": 0.2, "head": "sigmoid",
        "encoder_activation": "elu", "decoder_activation": "elu", "input_scale": "log",
    },
    "blstm": {"units": 6, "activation": "sigmoid"},
    "unet_lstm": {
        **MIDDLE, "activation": "selu", "dropout": 0.2, "mask": "relu", "bottleneck": "lstm",
    },
    "unet_vae": {
        **MIDDLE, "activation": "leaky_relu", "dropout": 0.0, "mask": "sigmoid", "latent": 5,
    },
    "tfc_tdf": {
        "fold": 2, "width": 4, "growth": 2, "depth": 2, "bottleneck": 4, "input_scale": "log",
    },
}  # fmt: skip


def net_of(kind: str, **values: Any) -> Net:
    return read_net({"kind": kind, "frames": FRAMES, "bins": BINS, **TINY[kind], **values})


@cache
def model_of(kind: str) -> Model:
    """A net with random weights and statistics everywhere, so that masks are not all alike."""
    net = net_of(kind)
    keras_model = net.build(["vocals"], seed=4)
    random = np.random.default_rng(4)
    for weight in keras_model.weights:
        values = random.normal(0, 0.2, weight.shape)
        weight.assign(1 + values**2 if "variance" in weight.path else np.asarray(weight) + values)
    return Model(("vocals",), net, 4096, 1024, RATE_HZ, {}, keras_model)


def music(windows: int = 1) -> np.ndarray:
    random = np.random.default_rng(windows)
    return random.exponential(20.0, (windows, FRAMES, BINS, 2)).astype(np.float32)


def test_every_kind_is_here() -> None:
    assert TINY.keys() == NETS.keys()


@pytest.mark.parametrize("kind", TINY)
def test_runtimes_and_exports_are_keras(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, mixture = model_of(kind), music()
    truth = np.asarray(model.keras_model(mixture)["vocals"])[0]
    assert np.std(truth / mixture) > 0.01  # masks differ from bin to bin
    folder = tmp_path / "vocals"
    folder.mkdir()
    save_model(folder, model)
    loaded = load_model(folder)
    np.testing.assert_array_equal(np.asarray(loaded.keras_model(mixture)["vocals"])[0], truth)
    found = {"TensorFlow": load_nets(folder)(mixture[0])["vocals"]}
    export.write_saved_model([model], tmp_path / "saved_model")
    run = export.runner(tmp_path / "saved_model", SIGNATURE)
    found["SavedModel"] = run(mixture=mixture)["vocals"][0]
    file = tmp_path / "vocals.tflite"
    file.write_bytes(export.to_tflite(model))
    assert not {"CUSTOM"} & operators(file)
    found["LiteRT"] = LiteRTNets(file, threads=1)(mixture[0])["vocals"]
    for name, values in found.items():
        difference = np.linalg.norm(values - truth) / np.linalg.norm(truth)
        assert difference < (1e-4 if name == "LiteRT" else 1e-5), name
    assert command(["info", str(folder)]) == 0
    assert f"  net         {model.net.describe()}\n" in capsys.readouterr().out


@pytest.mark.parametrize("kind", TINY)
def test_steps_reduce_the_loss_and_silence_has_finite_gradients(kind: str) -> None:
    net, config = net_of(kind), optimization(learning_rate=1e-2)
    step = Step(net, config, stems=("vocals",), weights=None, cluster=Cluster())
    step.set_learning_rate(1e-2)
    mixture = music(2)
    low = mixture * (np.arange(BINS)[:, None] < BINS // 4)  # the lowest quarter of the bins
    losses = [float(step.train(Batch(mixture, {"vocals": low}))[0]) for _ in range(12)]
    assert losses[-1] < 0.95 * losses[0]
    silence = np.zeros_like(mixture)
    loss, norm, going, *_ = np.asarray(step.train(Batch(silence, {"vocals": silence})))
    assert np.isfinite([loss, norm]).all()
    assert going == 1
    assert all(np.isfinite(values).all() for values in weights_of(step.model).values())
    assert np.isfinite(np.asarray(step.model(silence)["vocals"])).all()
    if kind == "unet_vae":  # whose latent's deviation has no effect in inference
        shown = step.gradients(Batch(silence, {"vocals": silence}))
        assert all(np.isfinite(np.asarray(gradient)).all() for gradient in shown.values())


@pytest.mark.parametrize("kind", TINY)
def test_the_seed_fixes_the_weights_and_16_bits_keep_them_in_float32(kind: str) -> None:
    # The masks of a ReLU may be 0 and 1 alone, which have no other 16 bits.
    net = net_of(kind, **({"mask": "sigmoid"} if "mask" in TINY[kind] else {}))
    models = [net.build(["a", "b"], seed=seed) for seed in (1, 2)]
    models.append(net.build(["a", "b"], seed=1, precision="mixed_bfloat16"))
    first, other, same = (weights_of(model) for model in models)
    assert all(np.array_equal(first[name], same[name]) for name in first)
    assert any(not np.array_equal(first[name], other[name]) for name in first)
    assert {weight.dtype for weight in models[2].weights} == {"float32"}
    mixture = music()
    exact, rough = (np.asarray(model(mixture)["b"]) for model in (models[0], models[2]))
    assert rough.dtype == np.float32
    assert 0 < np.linalg.norm(rough - exact) < 0.1 * np.linalg.norm(exact)


@pytest.mark.parametrize("kind", TINY)
def test_masks_are_shares(kind: str) -> None:
    model, mixture = model_of(kind), music(2)
    mixture[0, 3] = 0.0
    mixture[1] *= 1e4
    estimate = np.asarray(model.keras_model(mixture)["vocals"])
    assert estimate.shape == mixture.shape
    assert (estimate >= 0).all()
    assert (estimate <= mixture).all()


@pytest.mark.parametrize("kind", ["unet", "blstm", "unet_lstm", "unet_vae", "tfc_tdf"])
def test_other_frames_but_no_other_bins(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "vocals").mkdir()
    save_model(tmp_path / "vocals", model_of(kind))
    shorter = load_nets(tmp_path / "vocals", frames=24)(np.ones((24, BINS, 2), np.float32))
    assert shorter["vocals"].shape == (24, BINS, 2)
    assert np.isfinite(shorter["vocals"]).all()
    top_hz = BINS * RATE_HZ / 4096
    assert load_nets(tmp_path / "vocals", max_frequency_hz=top_hz).interface.bins == BINS
    field = "norm=instance" if kind == "unet" else f"kind={kind}"
    with pytest.raises(UserError, match=rf"^bins=96: net.{field} has a fixed number of bins"):
        net_of(kind).resized(bins=96)
    song, out = tmp_path / "song.wav", tmp_path / "out"
    song.write_bytes(b"")
    flags = ["--model", str(tmp_path / "vocals"), "--max-frequency-hz", "1000"]
    assert command(["separate", str(song), "--output", str(out), *flags]) == 2
    message = f"net.{field} has a fixed number of bins (64 = 689 Hz): leave out --max-freq"
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_convolutions_alone_fit_other_bins() -> None:
    values = {"bottleneck": "conv", "centre_scale": False, "hidden": 0, "layers": 0}
    net = net_of("unet_lstm", **values)
    names = [set(weights_of(n.build(["a"]))) for n in (net, net.resized(frames=8, bins=96))]
    assert names[0] == names[1]
    by_bin = net_of("unet_lstm", **{**values, "centre_scale": True})
    with pytest.raises(UserError, match=r"^bins=96: net.centre_scale=true has a fixed number of"):
        by_bin.resized(bins=96)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("blstm", {"units": 0}, "units=0: must be 1 to 4096"),
        ("unet_lstm", {"bottleneck": "conv"}, "hidden=4: must be 0 with bottleneck=conv"),
        ("unet_lstm", {"mask": "softmax"}, "mask='softmax': must be one of sigmoid, relu, tanh"),
        ("unet_lstm", {"frames": 18}, "frames=18: must be a positive multiple of 4"),
        ("unet_vae", {"latent": 0}, "latent=0: must be 1 to 16384"),
        ("unet_vae", {"dropout": 1.0}, "dropout=1.0: must be 0 or more and below 1"),
        ("tfc_tdf", {"frames": 12}, "frames=12: must be a positive multiple of 8"),
        ("tfc_tdf", {"bottleneck": 9}, "bottleneck=9: must be 1 to 4, the bins of the deepest"),
    ],
)
def test_fields_that_do_not_fit(kind: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        net_of(kind, **values)
    assert str(error.value).startswith(message)


def lstm_by_hand(x: np.ndarray, weights: dict[str, np.ndarray], cell: str) -> np.ndarray:
    """Hochreiter and Schmidhuber's cell in float64; Keras orders the gates i, f, g, o."""
    kernel, recurrent, bias = (
        weights[f"{cell}/lstm_cell/{name}"].astype(np.float64)
        for name in ("kernel", "recurrent_kernel", "bias")
    )
    hidden = state = np.zeros(recurrent.shape[0])
    outputs = []
    for frame in x:
        i, f, g, o = np.split(frame @ kernel + hidden @ recurrent + bias, 4)
        i, f, o = (1 / (1 + np.exp(-gate)) for gate in (i, f, o))
        state = f * state + i * np.tanh(g)
        hidden = o * np.tanh(state)
        outputs.append(hidden)
    return np.array(outputs)


@pytest.mark.parametrize("activation", ["relu", "sigmoid"])
def test_blstm_is_the_formula(activation: str) -> None:
    model = net_of("blstm", activation=activation).build(["vocals"], seed=3)
    weights, mixture = weights_of(model), music()
    x = mixture[0].reshape(FRAMES, 2 * BINS).astype(np.float64)
    for number in range(3):
        forward = lstm_by_hand(x, weights, f"lstm_{number}/forward_lstm_{number}_forward")
        backward = lstm_by_hand(x[::-1], weights, f"lstm_{number}/lstm_{number}_backward")
        x = np.concatenate([forward, backward[::-1]], axis=1)
    x = (x @ weights["dense/kernel"] + weights["dense/bias"]).reshape(FRAMES, BINS, 2)
    expected = np.maximum(x, 0) if activation == "relu" else mixture[0] / (1 + np.exp(-x))
    found = np.asarray(model(mixture)["vocals"])[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_kl_is_the_formula_and_cannot_overflow() -> None:
    random = np.random.default_rng(0)
    mu, x = random.normal(0, 2, (2, 3, 4, 5))
    layer = Latent(seed=1)
    draws = np.asarray(
        layer(tf.constant(mu, tf.float32), tf.constant(x, tf.float32), training=True)
    )
    log_sigma = 5 * np.tanh(x / 5)
    kl = (mu**2 + np.exp(log_sigma) ** 2 - np.log(np.exp(log_sigma) ** 2) - 1) / 2
    assert float(layer.losses[0]) == pytest.approx(kl.mean(), rel=1e-5)
    noise = (draws - mu) / np.exp(log_sigma)
    assert 0.5 < noise.std() < 1.5
    assert abs(noise.mean()) < 0.5
    far = tf.constant([[[1e30, -1e30]]], tf.float32)
    assert np.isfinite(np.asarray(layer(tf.zeros_like(far), far, training=True))).all()
    assert np.isfinite(float(layer.losses[0]))


def test_vae_draws_in_training_and_takes_the_mean_otherwise() -> None:
    model, mixture = net_of("unet_vae").build(["vocals"], seed=1), music()
    assert net_of("unet_vae").own_losses == {"kl"}
    once, twice = (np.asarray(model(mixture)["vocals"]) for _ in range(2))
    np.testing.assert_array_equal(once, twice)
    assert model.losses == []
    again = net_of("unet_vae").build(["vocals"], seed=1)
    drawn, same = (np.asarray(m(mixture, training=True)["vocals"]) for m in (model, again))
    np.testing.assert_array_equal(drawn, same)  # the seed fixes the noise
    assert not np.array_equal(drawn, np.asarray(model(mixture, training=True)["vocals"]))
    assert len(model.losses) == 1
    # Without its deviation, a draw is the mean: tanh saturates at sigma = e ** -5.
    layer = Latent(seed=1)
    mu = tf.constant(np.random.default_rng(0).normal(size=(1, 4, 5)), tf.float32)
    sharp = layer(mu, tf.fill(mu.shape, -1e9), training=True)
    np.testing.assert_allclose(sharp, mu, atol=5 * np.exp(-5))
    np.testing.assert_array_equal(layer(mu, mu, training=False), mu)


def test_an_estimate_does_not_depend_on_the_other_windows() -> None:
    # An LSTM over the batch, as auralflow's, would fail.
    mixture = music(3)
    for kind in ("blstm", "unet_lstm", "unet_vae"):
        model = model_of(kind).keras_model
        alone = np.asarray(model(mixture[1:2])["vocals"])[0]
        together = np.asarray(model(mixture)["vocals"])[1]
        np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-4)


def test_directions_start_with_weights_of_their_own() -> None:
    weights = weights_of(net_of("blstm").build(["vocals"]))
    forward = weights["lstm_1/forward_lstm_1_forward/lstm_cell/kernel"]
    backward = weights["lstm_1/lstm_1_backward/lstm_cell/kernel"]
    assert not np.array_equal(forward, backward)


def test_tfc_tdf_sees_a_whole_frame_from_each_bin() -> None:
    # Its paper's point: dense layers reach every bin. The convolutions of one level end 40 bins on.
    model = net_of("tfc_tdf", bins=256, depth=1).build(["vocals"], seed=1)
    mixture = tf.ones((1, FRAMES, 256, 2))
    with tf.GradientTape() as tape:
        tape.watch(mixture)
        estimate = model(mixture)["vocals"][0, 4, 2, 0]
    gradient = np.asarray(tape.gradient(estimate, mixture))[0]
    assert (gradient[4, 42:] != 0).mean() > 0.9


def test_centre_and_scale_are_those_of_each_bin() -> None:
    layer, x = CentreScale(), music()
    np.testing.assert_array_equal(layer(x), x)  # at first
    scale, centre = np.arange(1.0, BINS + 1), np.arange(BINS)[::-1]
    layer.scale.assign(scale[:, None])
    layer.centre.assign(centre[:, None])
    y = np.asarray(layer(x))
    assert y[0, 3, 5, 1] == pytest.approx(x[0, 3, 5, 1] * 6 + BINS - 6)
    np.testing.assert_allclose(y[..., 0], x[..., 0] * scale + centre, rtol=1e-6)


@pytest.mark.parametrize("scale", ["linear", "sqrt", "log"])
def test_input_scales(scale: str) -> None:
    from stemforge.train.nets.parts import Compress

    x = np.array([0.0, 0.25, 3.0, 400.0], np.float32)
    by_hand = {"linear": x, "sqrt": x**0.5, "log": np.log(1 + x.astype(np.float64))}
    np.testing.assert_allclose(Compress(scale)(x), by_hand[scale], rtol=1e-6)  # type: ignore[arg-type]

import dataclasses
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from stemforge.errors import UserError
from stemforge.train.config import Precision
from stemforge.train.model import Model, load_model, save_model, weights_of
from stemforge.train.model_files import find_model_folders
from stemforge.train.nets.protocol import InputScale
from stemforge.train.nets.unet import UNet
from stemforge.train.nets.unet.layers import Affine, InstanceNorm, OneFilterDeconvolution

SPLEETER = UNet(512, 1024, 16, 6, "affine", 0.0, "elu", "elu", "sigmoid", "linear")
SMALL = UNet(16, 32, 2, 3, "batch", 0.5, "leaky_relu", "relu", "sigmoid", "linear")


def stem_model(net: UNet, *, seed: int = 0) -> Model:
    keras_model = net.build(["vocals"], seed=seed)
    return Model(("vocals",), net, 4096, 1024, 44100, {"step": 1}, keras_model)


def test_parameter_count_is_spleeters() -> None:
    # Spleeter's 9 823 749 less its unused sixth norm's gamma and beta of 512 channels.
    assert SPLEETER.build(["vocals"]).count_params() == 9_823_749 - 2 * 512


def test_shapes_of_every_level() -> None:
    model = dataclasses.replace(SPLEETER, frames=64, bins=128).build(["vocals"])
    shapes = {layer.name: layer.output.shape for layer in model.layers}
    filters = (16, 32, 64, 128, 256, 512)
    for level, channels in enumerate(filters):
        size = 2 ** (level + 1)
        assert shapes[f"encoder_{level}"] == (None, 64 // size, 128 // size, channels)
    for level, channels in enumerate((256, 128, 64, 32, 16, 1)):
        size = 2 ** (5 - level)
        assert shapes[f"decoder_{level}"] == (None, 64 // size, 128 // size, channels)
    assert shapes["mask"] == (None, 64, 128, 2)


def test_output_is_a_share_of_the_input(random: np.random.Generator) -> None:
    mixture = random.exponential(size=(2, 16, 32, 2)).astype(np.float32)
    mixture[0, 3] = 0
    estimate = np.asarray(SMALL.build(["vocals"])(mixture)["vocals"])
    assert estimate.shape == mixture.shape
    assert (estimate >= 0).all()
    assert (estimate <= mixture).all()
    assert (estimate[0, 3] == 0).all()


@pytest.mark.parametrize(("scale", "shown"), [("sqrt", np.sqrt), ("log", np.log1p)])
def test_a_scaled_input_is_what_the_net_sees(
    scale: InputScale, shown: np.ufunc, random: np.random.Generator
) -> None:
    mixture = random.exponential(20.0, (1, 16, 32, 2)).astype(np.float32)
    linear = SMALL.build(["a", "b"], seed=3)
    scaled = dataclasses.replace(SMALL, input_scale=scale).build(["a", "b"], seed=3)
    assert weights_of(scaled).keys() == weights_of(linear).keys()
    mask = np.asarray(linear(shown(mixture))["b"]) / shown(mixture)
    assert mask.std() > 0.01
    np.testing.assert_allclose(np.asarray(scaled(mixture)["b"]), mask * mixture, rtol=1e-4)


def test_affine_equals_keras_batch_norm_at_inference(random: np.random.Generator) -> None:
    x = random.normal(size=(2, 3, 4, 5)).astype(np.float32)
    norm = keras.layers.BatchNormalization(epsilon=1e-3)
    affine = Affine()
    norm.build(x.shape)
    affine.build(x.shape)
    gamma, beta = random.normal(size=(2, 5)).astype(np.float32)
    norm.set_weights([gamma, beta, np.zeros(5), np.ones(5)])
    affine.set_weights([gamma, beta])
    ours, theirs = np.asarray(affine(x)), np.asarray(norm(x, training=False))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_instance_norm_is_the_formula(random: np.random.Generator) -> None:
    """Ulyanov et al. 2016, by hand in float64; silence and large values stay finite."""
    x = random.normal(3.0, 5.0, size=(2, 3, 4, 5))
    gamma, beta = random.normal(size=(2, 5))
    layer = InstanceNorm()
    layer.build(x.shape)
    layer.set_weights([gamma, beta])
    mean, variance = x.mean((1, 2), keepdims=True), x.var((1, 2), keepdims=True)
    expected = gamma * (x - mean) / np.sqrt(variance + 1e-3) + beta
    np.testing.assert_allclose(layer(x.astype(np.float32)), expected, atol=1e-5)
    silent = np.broadcast_to(beta, x.shape)
    np.testing.assert_allclose(layer(np.zeros(x.shape, np.float32)), silent, rtol=1e-5)
    half = InstanceNorm(dtype="mixed_float16")
    half.build(x.shape)
    loud = np.asarray(half(tf.cast(x * 2e3, tf.float16)), np.float64)
    np.testing.assert_allclose(loud, (x - mean) / np.sqrt(variance), atol=5e-3)


def test_seed_fixes_the_weights() -> None:
    first, same, other = (weights_of(SMALL.build(["vocals"], seed=s)) for s in (1, 1, 2))
    assert all(np.array_equal(first[name], same[name]) for name in first)
    assert any(not np.array_equal(first[name], other[name]) for name in first)
    assert not np.array_equal(
        first["encoder_1/kernel"].ravel()[:8], first["encoder_2/kernel"].ravel()[:8]
    )


def test_kernels_are_he_uniform() -> None:
    # Uniform in +-sqrt(6 / fan_in): He et al. 2015.
    kernel = weights_of(SPLEETER.build(["vocals"]))["encoder_2/kernel"]
    limit = np.sqrt(6 / (5 * 5 * 32))
    assert np.abs(kernel).max() == pytest.approx(limit, rel=1e-3)
    assert kernel.std() == pytest.approx(limit / np.sqrt(3), rel=0.02)


def test_model_directory_round_trip(tmp_path: Path, random: np.random.Generator) -> None:
    model = stem_model(SMALL, seed=5)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        save_model(tmp_path / name, model)
    loaded = load_model(tmp_path / "a")
    mixture = random.exponential(size=(1, 16, 32, 2)).astype(np.float32)
    np.testing.assert_array_equal(
        np.asarray(loaded.keras_model(mixture)["vocals"]),
        np.asarray(model.keras_model(mixture)["vocals"]),
    )
    assert dataclasses.replace(loaded, keras_model=None) == dataclasses.replace(
        model, keras_model=None
    )
    for file in ("model.json", "weights.npz"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert find_model_folders(tmp_path) == [tmp_path / "a", tmp_path / "b"]
    assert find_model_folders(tmp_path / "a") == [tmp_path / "a"]


def test_bad_model_directories(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        find_model_folders(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no model directory"):
        find_model_folders(tmp_path)
    with pytest.raises(UserError, match=r"no model.json in it"):
        load_model(tmp_path)
    (tmp_path / "model.json").write_text("{")
    with pytest.raises(UserError, match="not JSON"):
        load_model(tmp_path)
    (tmp_path / "model.json").write_text('{"version": 7}')
    with pytest.raises(
        UserError, match="version 7 is not supported; supported: 2, 3, 4: update stemforge"
    ):
        load_model(tmp_path)
    save_model(tmp_path, stem_model(SMALL))
    (tmp_path / "weights.npz").write_bytes(b"not a zip")
    with pytest.raises(UserError, match=r"weights.npz: not readable"):
        load_model(tmp_path)
    np.savez(tmp_path / "weights.npz", odd=np.zeros(3, np.float32))
    with pytest.raises(UserError, match="weights do not fit the net"):
        load_model(tmp_path)


def test_sizes_that_the_depth_does_not_divide() -> None:
    with pytest.raises(UserError, match=r"frames=20: must be a positive multiple of 8$"):
        dataclasses.replace(SMALL, frames=20)


@pytest.mark.parametrize(
    ("precision", "close"), [("mixed_bfloat16", 0.03), ("mixed_float16", 4e-3)]
)
def test_16_bits_are_float32_with_fewer_digits(
    precision: Precision, close: float, random: np.random.Generator
) -> None:
    net = dataclasses.replace(SMALL, norm="affine", dropout=0.0)
    mixture = random.exponential(size=(2, 16, 32, 2)).astype(np.float32)
    exact = np.asarray(net.build(["vocals"], seed=1)(mixture)["vocals"])
    model = net.build(["vocals"], seed=1, precision=precision)
    assert {weight.dtype for weight in model.weights} == {"float32"}
    rough = np.asarray(model(mixture)["vocals"])
    assert rough.dtype == np.float32
    np.testing.assert_allclose(rough, exact, atol=close * mixture.max())
    assert np.abs(rough - exact).max() > 1e-6


def test_a_softmax_over_one_stem_is_refused() -> None:
    with pytest.raises(ValueError, match="needs two stems"):
        dataclasses.replace(SMALL, head="softmax").build(["vocals"])


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_the_last_deconvolution_is_kerass(dtype: str, random: np.random.Generator) -> None:
    ours = OneFilterDeconvolution(1, 5, 2, "same", dtype=dtype)
    theirs = keras.layers.Conv2DTranspose(1, 5, 2, "same", dtype=dtype)
    x = tf.constant(random.normal(size=(2, 6, 5, 7)), tf.float32)
    weights = [random.normal(size=(5, 5, 1, 7)), random.normal(size=1)]
    upstream = tf.constant(random.normal(size=(2, 12, 10, 1)), tf.float32)
    found = []
    for layer in (ours, theirs):
        layer.build(x.shape)
        layer.set_weights(weights)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
            loss = tf.reduce_sum(tf.cast(y, tf.float32) * upstream)
        wanted = [x, layer.kernel.value, layer.bias.value]
        found.append([tf.cast(v, tf.float32) for v in (y, *tape.gradient(loss, wanted))])
    close = 1e-4 if dtype == "float32" else 0.2  # of values up to 60, which bfloat16 rounds
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, atol=close, rtol=close / 10)

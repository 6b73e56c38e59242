"""The nets without Keras against Keras' own layers."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from stemforge.errors import UserError
from stemforge.eval.runtimes.tensorflow import TensorFlowNets, load_nets
from stemforge.train.model import Model, save_model, set_weights, weights_of
from stemforge.train.nets.protocol import Library
from stemforge.train.nets.unet import UNet, folding
from tests.conftest import RATE_HZ
from tests.test_separation_separator import nets

NETS = {
    "4stems": UNet(32, 64, 4, 3, "affine", 0.0, "elu", "elu", "sigmoid", "linear"),
    "2stems": UNet(32, 64, 2, 4, "affine", 0.0, "leaky_relu", "relu", "sigmoid", "linear"),
    "batch norm": UNet(16, 32, 3, 2, "batch", 0.5, "relu", "elu", "sigmoid", "log"),
    "instance norm": UNet(16, 32, 2, 3, "instance", 0.0, "elu", "relu", "sigmoid", "linear"),
    "softmax": UNet(16, 32, 2, 3, "affine", 0.0, "elu", "elu", "softmax", "sqrt"),
    "full depth": UNet(64, 128, 2, 6, "affine", 0.0, "elu", "elu", "sigmoid", "linear"),
}


def trained(net: UNet, stems: tuple[str, ...], *, seed: int = 0) -> Model:
    """Weights as they might be after training: no norm is neutral, every stem differs."""
    random = np.random.default_rng(seed)
    built = net.build(stems, seed=seed)
    for weight in built.weights:
        if "kernel" in weight.path:
            spread = 0.2 / np.sqrt(np.prod(weight.shape[:-1]))
            weight.assign(weight + random.normal(0, spread, weight.shape))
        elif weight.path.endswith(("gamma", "variance")):
            weight.assign(random.uniform(0.5, 1.5, weight.shape))
        else:
            weight.assign(random.uniform(-0.5, 0.5, weight.shape))
    return Model(stems, net, 4096, 1024, RATE_HZ, {}, built)


@pytest.mark.parametrize("library", ["onednn", "xnnpack"])
@pytest.mark.parametrize("name", NETS)
def test_equals_keras(name: str, library: Library, random: np.random.Generator) -> None:
    net = NETS[name]
    model = trained(net, ("a", "b") if net.head == "softmax" else ("a",))
    mixture = random.exponential(5.0, (2, net.frames, net.bins, 2)).astype(np.float32)
    lowered = net.lowered(weights_of(model.keras_model), model.stems, library=library)
    found = lowered.run(tf.constant(mixture), lowered.values)
    truth = model.keras_model(mixture, training=False)
    for stem, estimate in zip(model.stems, found, strict=True):
        share, expected = np.asarray(estimate) / mixture, np.asarray(truth[stem]) / mixture
        assert expected.std() > 0.01
        np.testing.assert_allclose(share, expected, atol=1e-4)


def test_phases_are_a_transposed_convolution(random: np.random.Generator) -> None:
    kernel = random.normal(size=(5, 5, 3, 4)).astype(np.float32)
    image = random.normal(size=(1, 6, 8, 4)).astype(np.float32)
    truth = np.asarray(tf.nn.conv2d_transpose(image, kernel, [1, 12, 16, 3], 2, "SAME"))
    for name, phase in folding.phase_kernels(kernel).items():
        row, column = map(int, name.removeprefix("kernel_"))
        padded = np.pad(image, [(0, 0), (1, row), (1, column), (0, 0)])
        found = np.asarray(tf.nn.conv2d(padded, phase, 1, "VALID"))
        np.testing.assert_allclose(found, truth[:, row::2, column::2], atol=1e-5)


def test_bfloat16_is_near(random: np.random.Generator) -> None:
    model = trained(NETS["4stems"], ("a",))
    mixture = random.exponential(5.0, (32, 64, 2)).astype(np.float32)
    near = nets(model, precision="bfloat16")(mixture)["a"]
    exact = nets(model)(mixture)["a"]
    assert near.dtype == np.float32
    difference = np.linalg.norm(near - exact) / np.linalg.norm(exact)
    assert 1e-5 < difference < 0.02  # bfloat16 keeps 8 bits


def test_nets_look_further_up_than_they_were_trained(
    tmp_path: Path, random: np.random.Generator
) -> None:
    model = trained(NETS["4stems"], ("a",))
    save_model(tmp_path, model)
    wide = load_nets(tmp_path, max_frequency_hz=1000.0)  # 92.9 bins, to a multiple of 8
    assert wide.interface.bins == 96
    mixture = random.exponential(5.0, (32, 96, 2)).astype(np.float32)
    same = dataclasses.replace(model.net, bins=96).build(["a"])
    set_weights(same, weights_of(model.keras_model))
    truth = np.asarray(same(mixture[None])["a"])[0]
    np.testing.assert_allclose(wide(mixture)["a"], truth, rtol=1e-4, atol=1e-5)
    assert load_nets(tmp_path).interface.bins == 64
    for frequency_hz in (0.0, 30_000.0):
        with pytest.raises(UserError, match="must be above 0 and at most 22050"):
            load_nets(tmp_path, max_frequency_hz=frequency_hz)


def test_weights_of_another_net_are_refused() -> None:
    model = trained(NETS["4stems"], ("a",))
    weights = weights_of(model.keras_model)
    wider = dataclasses.replace(NETS["4stems"], width=8)
    with pytest.raises(UserError, match=r"mask/kernel|encoder_0/kernel is \[5, 5, 2, 4\], not"):
        TensorFlowNets(model.interface, wider, weights)
    del weights["decoder_1/bias"]
    with pytest.raises(UserError, match="decoder_1/bias is missing"):
        TensorFlowNets(model.interface, model.net, weights)

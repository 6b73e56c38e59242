"""The U-Nets with a recurrent bottleneck as Keras models."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from stemforge.train.config import Precision
from stemforge.train.nets.parts import Parts, model_of
from stemforge.train.nets.recurrent_unet import RecurrentUNet
from stemforge.train.nets.recurrent_unet.layers import CentreScale, Latent

DROPOUT_LEVELS = 3  # dropout follows the first three levels of the decoder


def build(
    net: RecurrentUNet, stems: Sequence[str], *, seed: int = 0, precision: Precision = "float32"
) -> keras.Model:
    """Builds the nets of one model with fresh weights; see Net.build."""

    def estimate(mixture: Any, parts: Parts) -> Any:
        logits = keras.ops.cast(_logits(net, mixture, parts), "float32")
        mask = keras.ops.clip(keras.activations.get(net.mask)(logits), 0.0, 1.0)
        options = {**parts.name("estimate"), "dtype": "float32"}
        return layers.Multiply(**options)([mask, mixture])

    return model_of(net, stems, estimate, seed=seed, precision=precision)


def _logits(net: RecurrentUNet, mixture: Any, parts: Parts) -> Any:
    """One stem's net up to its mask's activation, [batch, frames, bins, 2]."""
    channels = [net.width * 2**level for level in range(net.depth)]
    x, skips = mixture, []
    if net.centre_scale:
        x = CentreScale(**parts.name("input_centre_scale"))(x)
    for level, width in enumerate(channels):
        x = _triple(x, width, net, f"encoder_{level}", parts)  # [b, T / 2^level, F / 2^level, .]
        skips.append(x)
        x = layers.MaxPooling2D(2, **parts.name(f"pool_{level}"))(x)
    if net.bottleneck_kind == "conv":
        x = _triple(x, 2 * channels[-1], net, "middle", parts)
    else:
        x = _recurrent(x, net, parts)
    for number, width in enumerate(reversed(channels)):
        up = f"decoder_{number}"
        x = layers.Conv2DTranspose(width, 5, 2, "same", **parts.kernel(f"{up}_up"))(x)
        x = parts.norm(f"{up}_up_norm")(x)
        x = layers.Concatenate(**parts.name(f"{up}_skip"))([skips.pop(), x])
        x = _triple(x, width, net, up, parts)
        if net.dropout and number < DROPOUT_LEVELS:
            x = parts.dropout(f"{up}_dropout", net.dropout)(x)
    x = layers.Conv2D(2, 1, **parts.kernel("last"))(x)
    # A mask of ReLU or tanh starts at 0.5 too: below 0 it is clamped and has no gradient.
    x = parts.norm("last_norm", beta=0.0 if net.mask == "sigmoid" else 0.5)(x)
    return CentreScale(**parts.name("output_centre_scale"))(x) if net.centre_scale else x


def _triple(x: Any, channels: int, net: RecurrentUNet, name: str, parts: Parts) -> Any:
    for number in range(3):
        x = layers.Conv2D(channels, 3, padding="same", **parts.kernel(f"{name}_{number}"))(x)
        options = parts.name(f"{name}_{number}_activation")
        if net.activation == "selu":
            x = layers.Activation("selu", **options)(x)
        else:
            x = layers.LeakyReLU(negative_slope=0.2, **options)(x)
        x = parts.norm(f"{name}_{number}_norm")(x)
    return x


def _recurrent(x: Any, net: RecurrentUNet, parts: Parts) -> Any:
    """[batch, frames, bins, channels] to twice the channels, by LSTM layers over the frames."""
    _, frames, bins, channels = x.shape
    x = layers.Reshape((frames, bins * channels), **parts.name("middle_frames"))(x)
    if net.latent_units is not None:
        mu = layers.Dense(net.latent_units, **parts.kernel("mu"))(x)
        # Zeros: the deviation starts at 1, where its part of the KL divergence is 0.
        zeros = {**parts.name("log_sigma"), "kernel_initializer": "zeros"}
        log_sigma = layers.Dense(net.latent_units, **zeros)(x)
        x = Latent(seed=parts.seed(), **parts.name("latent"))(mu, log_sigma)
    for number in range(net.layers):
        if net.dropout and number:
            x = parts.dropout(f"lstm_dropout_{number}", net.dropout)(x)
        x = parts.bidirectional(f"lstm_{number}", net.hidden)(x)  # [b, frames, 2 hidden]
    for number, units in enumerate((net.hidden, bins * 2 * channels)):
        dense = f"middle_dense_{number}"
        x = layers.Dense(units, activation="selu", **parts.kernel(dense))(x)
    return layers.Reshape((frames, bins, 2 * channels), **parts.name("middle_bins"))(x)

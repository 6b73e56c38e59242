"""Spleeter's U-Net for one stem, and the directory that holds a trained one.

Hennequin, Khlif, Voituret, Moussallam: Spleeter (JOSS 2020), after Jansson et al., Singing
voice separation with deep U-Net convolutional networks (ISMIR 2017).
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from features.errors import UserError
from features.models import MODEL_VERSION, read_card

KERNEL = 5
DROPOUT_LEVELS = 3  # dropout follows the first three decoder blocks
NORM_EPSILON = 1e-3
Norm = Literal["affine", "batch"]
Activation = Literal["elu", "relu", "leaky_relu"]


@dataclass(frozen=True)
class Net:
    """What a net looks like; Spleeter's values in brackets.

    Attributes:
        frames: frames in and out, T [512]; a multiple of 2 ** depth.
        bins: lowest bins of the STFT that it sees, F [1024]; a multiple of 2 ** depth.
        width: filters of the first encoder block [16]; each further block doubles them.
        depth: number of encoder blocks [6].
        norm: "affine" scales and shifts each channel, as the released models do; "batch"
            also normalises by batch statistics.
        dropout: rate after the first three decoder blocks [0; 0.5 in Spleeter's code, where
            it never fires].
        encoder_activation: ["leaky_relu" with slope 0.2 in 2stems, "elu" elsewhere].
        decoder_activation: ["relu" in 2stems, "elu" elsewhere].
    """

    frames: int
    bins: int
    width: int
    depth: int
    norm: Norm
    dropout: float
    encoder_activation: Activation
    decoder_activation: Activation

    def __post_init__(self) -> None:
        unit = 2**self.depth
        for name in ("frames", "bins"):
            if getattr(self, name) % unit:
                raise UserError(
                    f"{name}={getattr(self, name)} is not a multiple of {unit}, "
                    f"which depth={self.depth} needs"
                )


@keras.saving.register_keras_serializable("stemforge")
class Affine(layers.Layer):  # type: ignore[misc]
    """Scale and shift per channel: batch norm whose statistics stay 0 and 1.

    y = x * gamma / sqrt(1 + epsilon) + beta, with Keras' own epsilon kept so that released
    weights mean here what they mean in Spleeter.

    Input shape: [..., channels]. Output shape: the same.
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates gamma (ones) and beta (zeros), float32 [channels]."""
        shape = (input_shape[-1],)
        self.gamma = self.add_weight(name="gamma", shape=shape, initializer="ones")
        self.beta = self.add_weight(name="beta", shape=shape, initializer="zeros")

    def call(self, inputs: Any) -> Any:
        """Applies the map to each channel."""
        return inputs * (self.gamma * (1.0 + NORM_EPSILON) ** -0.5) + self.beta


def build(net: Net, *, seed: int = 0) -> keras.Model:
    """Builds the net with fresh weights (he_uniform, as Spleeter).

    Args:
        net: its shape.
        seed: of the initial weights and of dropout.

    Returns:
        A model from mixture magnitudes, float32 [batch, frames, bins, 2], to the stem's,
        the same shape: a mask in [0, 1] times the input.
    """
    seeds = iter(range(seed * 1000, seed * 1000 + 1000))
    filters = [net.width * 2**level for level in range(net.depth)]  # 16 32 64 128 256 512

    def init() -> keras.initializers.Initializer:
        return keras.initializers.HeUniform(seed=next(seeds))

    x = mixture = keras.Input((net.frames, net.bins, 2), name="mixture")  # [b, T, F, 2]
    skips = []
    for level in range(net.depth):
        x = layers.Conv2D(  # [b, T / 2^(level + 1), F / 2^(level + 1), filters]
            filters[level], KERNEL, 2, "same", kernel_initializer=init(), name=f"encoder_{level}"
        )(x)
        skips.append(x)  # the raw convolution
        if level < net.depth - 1:
            x = _norm(net, f"encoder_norm_{level}")(x)
            x = _activation(net.encoder_activation)(x)
    skips.pop()  # the deepest one is x itself
    for level, width in enumerate([*reversed(filters[:-1]), 1]):
        x = layers.Conv2DTranspose(  # [b, twice T, twice F, width]
            width, KERNEL, 2, "same", kernel_initializer=init(), name=f"decoder_{level}"
        )(x)
        x = _activation(net.decoder_activation)(x)
        x = _norm(net, f"decoder_norm_{level}")(x)
        if net.dropout and level < DROPOUT_LEVELS:
            x = layers.Dropout(net.dropout, seed=next(seeds))(x)
        if skips:
            x = layers.Concatenate()([skips.pop(), x])  # [b, ., ., 2 width]
    mask = layers.Conv2D(  # [b, T, F, 2]
        2,
        4,
        1,
        "same",
        dilation_rate=2,
        activation="sigmoid",
        kernel_initializer=init(),
        name="mask",
    )(x)
    return keras.Model(mixture, layers.Multiply(name="estimate")([mask, mixture]))


def _norm(net: Net, name: str) -> layers.Layer:
    if net.norm == "affine":
        return Affine(name=name)
    return layers.BatchNormalization(
        epsilon=NORM_EPSILON, momentum=0.9, synchronized=True, name=name
    )


def _activation(name: Activation) -> layers.Layer:
    if name == "leaky_relu":
        return layers.LeakyReLU(negative_slope=0.2)
    return layers.Activation(name)


def weights(model: keras.Model) -> dict[str, NDArray[np.float32]]:
    """All weights of a net by name, such as "encoder_0/kernel"."""
    return {weight.path: np.asarray(weight) for weight in model.weights}


def set_weights(model: keras.Model, values: Mapping[str, NDArray[np.float32]]) -> None:
    """Assigns weights by name.

    Raises:
        UserError: the names are not exactly the net's.
    """
    paths = [weight.path for weight in model.weights]
    if set(paths) != set(values):
        odd = sorted(set(paths) ^ set(values))
        raise UserError(f"weights do not fit the net: {odd[0]} is only on one side")
    for weight in model.weights:
        weight.assign(values[weight.path])


@dataclass(frozen=True)
class StemModel:
    """A trained net and what its input must be.

    Attributes:
        stem: name of the stem that it estimates.
        net: its shape.
        frame_length_samples: of the STFT.
        frame_step_samples: of the STFT.
        sample_rate_hz: of the audio.
        provenance: how it was trained: parameters, features' hash, step, losses.
        keras_model: the net with its weights.
    """

    stem: str
    net: Net
    frame_length_samples: int
    frame_step_samples: int
    sample_rate_hz: int
    provenance: Mapping[str, Any]
    keras_model: keras.Model


def save_model(folder: Path, model: StemModel) -> None:
    """Writes weights.npz and model.json into an existing folder.

    The same model gives the same bytes: .npz members carry a fixed date.
    """
    np.savez(folder / "weights.npz", allow_pickle=False, **weights(model.keras_model))
    card: dict[str, Any] = {"version": MODEL_VERSION}
    card |= {
        field.name: getattr(model, field.name)
        for field in dataclasses.fields(model)
        if field.name != "keras_model"
    }
    card["net"] = dataclasses.asdict(model.net)
    text = json.dumps(card, indent=2, sort_keys=True) + "\n"
    (folder / "model.json").write_text(text, encoding="utf-8")


def load_model(folder: Path) -> StemModel:
    """Reads a model directory.

    Raises:
        UserError: it is none, of another version, or its weights do not fit.
    """
    card = read_card(folder)
    del card["version"]
    net = Net(**card.pop("net"))
    keras_model = build(net)
    try:
        with np.load(folder / "weights.npz") as values:
            set_weights(keras_model, dict(values))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / 'weights.npz'}: not readable: {error}") from None
    return StemModel(net=net, keras_model=keras_model, **card)

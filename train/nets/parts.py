"""Keras layers that several nets use, and what the nets of a model's stems have in common."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import layers

from stemforge.train.config import Precision
from stemforge.train.nets.protocol import NORM_EPSILON, InputScale, Net


def batch_norm(**options: Any) -> layers.Layer:
    """Batch norm with the statistics of all replicas' windows."""
    return layers.BatchNormalization(
        epsilon=NORM_EPSILON, momentum=0.9, synchronized=True, **options
    )


class Parts:
    """Makes the layers of one stem's net: their names, seeds and precision.

    Args:
        prefix: of the layers' names: each stem's net of a joint model has its own.
        seed: all random numbers of the net come from it.
        precision: in which the layers compute.
    """

    def __init__(self, *, prefix: str, seed: int, precision: Precision) -> None:
        self._prefix = prefix
        self._seeds: Iterator[int] = itertools.count(seed * 1000)
        self.precision = precision

    def name(self, name: str) -> dict[str, Any]:
        """Arguments of a layer without random numbers."""
        return {"name": self._prefix + name, "dtype": self.precision}

    def seed(self) -> int:
        """The next layer's seed."""
        return next(self._seeds)

    def kernel(self, name: str) -> dict[str, Any]:
        """Arguments of a layer with a kernel: he_uniform (He et al. 2015)."""
        initializer = keras.initializers.HeUniform(seed=self.seed())
        return {**self.name(name), "kernel_initializer": initializer}

    def norm(self, name: str, *, axis: int = -1, beta: float = 0.0) -> layers.Layer:
        """Batch norm along an axis."""
        initializer = keras.initializers.Constant(beta)
        return batch_norm(axis=axis, beta_initializer=initializer, **self.name(name))

    def dropout(self, name: str, rate: float) -> layers.Layer:
        """Dropout with a seed of its own."""
        return layers.Dropout(rate, seed=self.seed(), **self.name(name))

    def bidirectional(self, name: str, units: int) -> layers.Layer:
        """An LSTM in each direction; their outputs are concatenated: [batch, frames, 2 units]."""

        def lstm(direction: str, **more: Any) -> layers.Layer:
            return LSTM(
                units,
                return_sequences=True,
                kernel_initializer=keras.initializers.GlorotUniform(seed=self.seed()),
                recurrent_initializer=keras.initializers.Orthogonal(seed=self.seed()),
                **self.name(f"{name}_{direction}"),
                **more,
            )

        # Keras would start the backward layer with the forward layer's weights: the seed's.
        return layers.Bidirectional(
            lstm("forward"),
            backward_layer=lstm("backward", go_backwards=True),
            **self.name(name),
        )


@keras.saving.register_keras_serializable("stemforge")
class LSTM(layers.LSTM):  # type: ignore[misc]
    """Keras' LSTM, which uses cuDNN in training only: its operation is in no exported file."""

    def call(
        self, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool = False
    ) -> Any:
        """See keras.layers.LSTM."""
        self.use_cudnn = "auto" if training else False
        return super().call(sequences, initial_state, mask, training)


def compressed(magnitudes: Any, scale: InputScale) -> Any:
    """Magnitudes on a scale on which quiet bins count too: x, sqrt(x) or ln(1 + x)."""
    if scale == "sqrt":
        return tf.sqrt(magnitudes)
    return tf.math.log1p(magnitudes) if scale == "log" else magnitudes


@keras.saving.register_keras_serializable("stemforge")
class Compress(layers.Layer):  # type: ignore[misc]
    """`compressed` as a layer."""

    def __init__(self, scale: InputScale, **more: Any) -> None:
        super().__init__(**more)
        self._scale = scale

    def call(self, inputs: Any) -> Any:
        """Maps each value."""
        return compressed(inputs, self._scale)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "scale": self._scale}


@keras.saving.register_keras_serializable("stemforge")
class DepthToSpace(layers.Layer):  # type: ignore[misc]
    """[batch, rows, columns, 4 channels] to [batch, 2 rows, 2 columns, channels].

    After a 1x1 convolution this is a transposed 2x2 convolution of stride 2 (Shi et al.,
    Real-time single image and video super-resolution, CVPR 2016), which both runtimes compute
    as a matrix product.
    """

    def call(self, inputs: Any) -> Any:
        """Places each pixel's channels in a square."""
        return tf.nn.depth_to_space(inputs, 2)


@keras.saving.register_keras_serializable("stemforge")
class SpaceToDepth(layers.Layer):  # type: ignore[misc]
    """[batch, 2 rows, 2 columns, channels] to [batch, rows, columns, 4 channels]."""

    def call(self, inputs: Any) -> Any:
        """Takes each square's pixels as channels."""
        return tf.nn.space_to_depth(inputs, 2)


def model_of(
    net: Net,
    stems: Sequence[str],
    estimate: Callable[[Any, Parts], Any],
    *,
    seed: int,
    precision: Precision,
) -> keras.Model:
    """A model with a net of each stem.

    Args:
        net: gives the input's size.
        stems: what they estimate.
        estimate: from the mixture's magnitudes [batch, frames, bins, 2] and the makers of a
            stem's layers to the stem's magnitudes, float32, of the same shape.
        seed: all stems start with the same weights.
        precision: see Net.build.
    """
    mixture = keras.Input((net.frames, net.bins, 2), name="mixture")
    found = {}
    for stem in stems:
        prefix = f"{stem}_" if len(stems) > 1 else ""
        found[stem] = estimate(mixture, Parts(prefix=prefix, seed=seed, precision=precision))
    return keras.Model(mixture, found)


def masked(mixture: Any, logits: Any, parts: Parts) -> Any:
    """The mixture times sigmoid masks, in float32."""
    mask = layers.Activation("sigmoid", **{**parts.name("mask"), "dtype": "float32"})(logits)
    return layers.Multiply(**{**parts.name("estimate"), "dtype": "float32"})([mask, mixture])

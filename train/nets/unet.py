"""Spleeter's U-Nets, one per stem, and the directory that holds trained ones.

Hennequin, Khlif, Voituret, Moussallam: Spleeter (JOSS 2020), after Jansson et al., Singing
voice separation with deep U-Net convolutional networks (ISMIR 2017).
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import layers

from stemforge.train.config import Activation, Net, Precision

KERNEL = 5
DROPOUT_LEVELS = 3  # dropout follows the first three decoder blocks
NORM_EPSILON = 1e-3


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


@keras.saving.register_keras_serializable("stemforge")
class OneFilterDeconvolution(layers.Conv2DTranspose):  # type: ignore[misc]
    """A 5x5 transposed convolution of stride 2 to one channel, in half the time on a CPU.

    Output row 2i + r sees input row i + d through tap r + 1 - 2d, for d in -1, 0, 1: the four
    phases of the output are four channels of a 3x3 convolution, which depth_to_space
    interleaves. For more filters, and for gradients, TensorFlow's own kernels are faster.
    """

    def call(self, inputs: Any) -> Any:
        """[batch, rows, columns, channels] to [batch, 2 rows, 2 columns, 1]."""
        kernel, bias = (tf.cast(w, inputs.dtype) for w in (self.kernel, self.bias))
        return _deconvolve_to_one(inputs, kernel) + bias


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _deconvolve_to_one(x: Any, kernel: Any) -> tuple[Any, Any]:
    channels = x.shape[-1]
    # Rows -1 to 4 of a kernel with a zero row in front: pairs are the phases of one shift.
    pairs = tf.reshape(tf.pad(kernel, [[1, 0], [1, 0], [0, 0], [0, 0]]), [3, 2, 3, 2, channels])
    shifts = tf.transpose(pairs[::-1, :, ::-1], [0, 2, 4, 1, 3])  # [dy, dx, channels, ry, rx]
    phases = tf.nn.conv2d(x, tf.reshape(shifts, [3, 3, channels, 4]), 1, "SAME")

    def gradient(upstream: Any) -> tuple[Any, Any]:
        return (
            tf.nn.conv2d(upstream, kernel, 2, "SAME"),
            tf.raw_ops.Conv2DBackpropFilter(
                input=upstream,
                filter_sizes=tf.shape(kernel),
                out_backprop=x,
                strides=[1, 2, 2, 1],
                padding="SAME",
            ),
        )

    return tf.nn.depth_to_space(phases, 2), gradient


def build(
    net: Net, stems: Sequence[str], *, seed: int = 0, precision: Precision = "float32"
) -> keras.Model:
    """Builds the nets of one model with fresh weights (he_uniform, as Spleeter).

    Args:
        net: their shape.
        stems: what they estimate; each has a net of its own.
        seed: of the initial weights and of dropout; every stem starts from the same.
        precision: "mixed_bfloat16" and "mixed_float16" compute all but masks and estimates in
            16 bits.

    Returns:
        A model from mixture magnitudes, float32 [batch, frames, bins, 2], to a dictionary
        of the stems' magnitudes, each of that shape: a mask in [0, 1] times the input.

    Raises:
        ValueError: a softmax over a single stem, which is 1 everywhere.
    """
    mixture = keras.Input((net.frames, net.bins, 2), name="mixture")  # [b, T, F, 2]
    logits = []
    for stem in stems:
        prefix = f"{stem}_" if len(stems) > 1 else ""
        logits.append(_logits(net, mixture, prefix=prefix, seed=seed, precision=precision))
    logits = [keras.ops.cast(logit, "float32") for logit in logits]
    if net.head == "softmax":
        if len(stems) < 2:
            raise ValueError("head=softmax needs two stems or more")
        shares = keras.ops.softmax(keras.ops.stack(logits, axis=-1), axis=-1)
        masks = [shares[..., number] for number in range(len(stems))]
    else:
        masks = [layers.Activation("sigmoid", dtype="float32")(logit) for logit in logits]
    return keras.Model(
        mixture,
        {
            stem: layers.Multiply(name=f"{stem}_estimate", dtype="float32")([mask, mixture])
            for stem, mask in zip(stems, masks, strict=True)
        },
    )


def _logits(net: Net, mixture: Any, *, prefix: str, seed: int, precision: Precision) -> Any:
    """One stem's net up to its mask's logits, [batch, frames, bins, 2]."""
    seeds = iter(range(seed * 1000, seed * 1000 + 1000))
    filters = [net.width * 2**level for level in range(net.depth)]  # 16 32 64 128 256 512

    def options(name: str) -> dict[str, Any]:
        init = keras.initializers.HeUniform(seed=next(seeds))
        return {"kernel_initializer": init, "name": prefix + name, "dtype": precision}

    def norm_and_activation(side: str, level: int) -> tuple[layers.Layer, layers.Layer]:
        norm = _norm(net, name=f"{prefix}{side}_norm_{level}", dtype=precision)
        kind = net.encoder_activation if side == "encoder" else net.decoder_activation
        return norm, _activation(kind, dtype=precision)

    x, skips = mixture, []
    for level in range(net.depth):
        x = layers.Conv2D(  # [b, T / 2^(level + 1), F / 2^(level + 1), filters]
            filters[level], KERNEL, 2, "same", **options(f"encoder_{level}")
        )(x)
        skips.append(x)  # the raw convolution
        if level < net.depth - 1:
            norm, activation = norm_and_activation("encoder", level)
            x = activation(norm(x))
    skips.pop()  # the deepest one is x itself
    for level, width in enumerate([*reversed(filters[:-1]), 1]):
        kind = layers.Conv2DTranspose if width > 1 else OneFilterDeconvolution
        x = kind(  # [b, twice T, twice F, width]
            width, KERNEL, 2, "same", **options(f"decoder_{level}")
        )(x)
        norm, activation = norm_and_activation("decoder", level)
        x = norm(activation(x))
        if net.dropout and level < DROPOUT_LEVELS:
            x = layers.Dropout(net.dropout, seed=next(seeds), dtype=precision)(x)
        if skips:
            x = layers.Concatenate(dtype=precision)([skips.pop(), x])  # [b, ., ., 2 width]
    return layers.Conv2D(2, 4, 1, "same", dilation_rate=2, **options("mask"))(x)  # [b, T, F, 2]


def _norm(net: Net, *, name: str, dtype: str) -> layers.Layer:
    if net.norm == "affine":
        return Affine(name=name, dtype=dtype)
    return layers.BatchNormalization(
        epsilon=NORM_EPSILON, momentum=0.9, synchronized=True, name=name, dtype=dtype
    )


def _activation(name: Activation, *, dtype: str) -> layers.Layer:
    if name == "leaky_relu":
        return layers.LeakyReLU(negative_slope=0.2, dtype=dtype)
    return layers.Activation(name, dtype=dtype)

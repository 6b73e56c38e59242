"""Keras layers of the U-Net."""

from typing import Any

import keras
import tensorflow as tf
from keras import layers

from stemforge.train.nets.protocol import NORM_EPSILON


@keras.saving.register_keras_serializable("stemforge")
class Affine(layers.Layer):  # type: ignore[misc]
    """Scale and shift per channel: batch norm whose statistics stay 0 and 1.

    y = x * gamma / sqrt(1 + epsilon) + beta. The epsilon is Keras' own, so that released weights
    mean the same as in Spleeter.

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


def instance_norm(x: Any, gamma: Any, beta: Any, axes: tuple[int, ...] = (1, 2)) -> Any:
    """Instance norm: gamma (x - mean) / sqrt(variance + epsilon) + beta, in float32.

    Args:
        x: [batch, rows, columns, channels], of any float type; so is the result.
        gamma: float32 [channels], or one value.
        beta: likewise.
        axes: over which each window's mean and variance are taken.
    """
    exact = tf.cast(x, tf.float32)
    mean, variance = tf.nn.moments(exact, axes, keepdims=True)
    scale = gamma * tf.math.rsqrt(variance + NORM_EPSILON)
    return tf.cast(exact * scale + (beta - mean * scale), x.dtype)


@keras.saving.register_keras_serializable("stemforge")
class InstanceNorm(Affine):
    """`instance_norm` over rows and columns, with gamma and beta of each channel.

    Input shape: [batch, rows, columns, channels]. Output shape: the same.
    """

    def call(self, inputs: Any) -> Any:
        """Normalises each channel of each window."""
        gamma, beta = (tf.cast(w, tf.float32) for w in (self.gamma, self.beta))
        return instance_norm(inputs, gamma, beta)


@keras.saving.register_keras_serializable("stemforge")
class OneFilterDeconvolution(layers.Conv2DTranspose):  # type: ignore[misc]
    """A 5x5 transposed convolution of stride 2 to one channel, in half the time on a CPU.

    Output row 2i + r uses input row i + d with tap r + 1 - 2d, for d in -1, 0, 1. So the four
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
    # Rows -1 to 4 of a kernel that starts with a zero row: pairs are the phases of one shift.
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

"""The trained U-Nets as TensorFlow operations, without Keras.

Bias and activation follow directly after their convolution, where oneDNN and XNNPACK fuse them.
Weights are arguments, so that all nets of one shape share one compiled function, and memory holds
one copy of the values. train.nets.unet.folding says what form they have.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from stemforge.train.config import InferencePrecision
from stemforge.train.nets.parts import compressed
from stemforge.train.nets.protocol import Library
from stemforge.train.nets.unet import LEAKY_SLOPE, Activation, UNet
from stemforge.train.nets.unet.folding import Weights
from stemforge.train.nets.unet.layers import instance_norm


def cast(weights: Weights, precision: InferencePrecision) -> Weights:
    """One net's folded weights in the type in which it computes.

    Norms stay in float32, which the fused norm accepts in every precision.
    """
    if precision == "float32":
        return weights
    kind = tf.bfloat16.as_numpy_dtype
    return {name: v if "_norm_" in name else v.astype(kind) for name, v in weights.items()}


def estimate(
    mixture: Any, weights: Sequence[Mapping[str, Any]], *, net: UNet, library: Library
) -> list[Any]:
    """Runs the nets of one model.

    Args:
        mixture: float32 [batch, frames, bins, 2], magnitudes; frames and bins are multiples of
            2 ** depth, and may differ from the net's own.
        weights: folded and cast; the nets compute in the type of its values.
        net: their shape.
        library: the one that they were folded for.

    Returns:
        float32 magnitudes of the mixture's shape for each stem.
    """
    shown = compressed(mixture, net.input_scale)  # in float32: 16 bits would lose quiet bins
    logits = [tf.cast(_logits(shown, values, net, library), tf.float32) for values in weights]
    if net.head == "softmax":
        masks = tf.unstack(tf.nn.softmax(tf.stack(logits, axis=-1), axis=-1), axis=-1)
    else:
        masks = [tf.sigmoid(logit) for logit in logits]
    return [mask * mixture for mask in masks]


def _logits(shown: Any, weights: Mapping[str, Any], net: UNet, library: Library) -> Any:
    """One stem's net up to its mask's logits; train.nets.unet.training has the shapes."""

    def convolution(x: Any, layer: str, stride: int) -> Any:
        with tf.name_scope(layer):  # the name that selects it for quantisation
            x = tf.nn.conv2d(x, weights[f"{layer}/kernel"], stride, "SAME")
            return tf.nn.bias_add(x, weights[f"{layer}/bias"])

    def norm(x: Any, layer: str) -> Any:
        scale, shift = weights[f"{layer}/scale"], weights[f"{layer}/shift"]
        if net.norm == "instance":
            return instance_norm(x, scale, shift)
        return tf.raw_ops.FusedBatchNormV3(  # in one pass over x
            x=x,
            scale=scale,
            offset=shift,
            mean=tf.zeros_like(scale),
            variance=tf.ones_like(scale),
            epsilon=0.0,
            is_training=False,
        ).y

    x, skips = tf.cast(shown, weights["mask/kernel"].dtype), []
    for level in range(net.depth):
        if library == "xnnpack" and level == 0:
            x = convolution(tf.nn.space_to_depth(x, 2), "encoder_0", 1)
        else:
            x = convolution(x, f"encoder_{level}", 2)
        skips.append(x)
        if level < net.depth - 1:
            x = _activation(net.encoder_activation)(norm(x, f"encoder_norm_{level}"))
    skips.pop()
    activation = _activation(net.decoder_activation)
    for level in range(net.depth - 1):
        layer = f"decoder_{level}"
        if library == "xnnpack":
            x = tf.nn.depth_to_space(activation(_phases(x, weights, layer)), 2)
        else:
            kernel = weights[f"{layer}/kernel"]
            _, rows, columns, _ = x.shape
            shape = [tf.shape(x)[0], 2 * rows, 2 * columns, kernel.shape[2]]
            x = tf.nn.conv2d_transpose(x, kernel, shape, 2, "SAME")
            x = activation(tf.nn.bias_add(x, weights[f"{layer}/bias"]))
        x = tf.concat([skips.pop(), norm(x, f"decoder_norm_{level}")], axis=-1)
    last = f"decoder_{net.depth - 1}"
    x = activation(convolution(x, last, 1))
    norm_name = f"decoder_norm_{net.depth - 1}"
    # One scale and one shift for all four phases.
    scale, shift = weights[f"{norm_name}/scale"], weights[f"{norm_name}/shift"]
    if net.norm == "instance":
        x = instance_norm(x, scale, shift, axes=(1, 2, 3))
    else:
        x = x * tf.cast(scale, x.dtype) + tf.cast(shift, x.dtype)
    return tf.nn.depth_to_space(convolution(tf.nn.space_to_depth(x, 2), "mask", 1), 4)


def _phases(x: Any, weights: Mapping[str, Any], layer: str) -> Any:
    """The four phases of a transposed convolution, as channels for depth_to_space."""
    phases = []
    for row in (0, 1):
        for column in (0, 1):
            # Each has its own padding, which XNNPACK fuses into the convolution.
            padded = tf.pad(x, [(0, 0), (1, row), (1, column), (0, 0)])
            with tf.name_scope(layer):
                phase = tf.nn.conv2d(padded, weights[f"{layer}/kernel_{row}{column}"], 1, "VALID")
                phases.append(tf.nn.bias_add(phase, weights[f"{layer}/bias"]))
    return tf.concat(phases, axis=-1)


def _activation(name: Activation) -> Any:
    if name == "leaky_relu":
        return lambda x: tf.nn.leaky_relu(x, alpha=LEAKY_SLOPE)
    return {"elu": tf.nn.elu, "relu": tf.nn.relu}[name]


@functools.cache
def runner(net: UNet, library: Library) -> Callable[[Any, Any], list[Any]]:
    """`estimate` for nets of one shape: always the same function, so it is compiled once."""
    return functools.partial(estimate, net=net, library=library)

"""Losses of magnitudes: the distance between the estimates of a batch and the true stems."""

from typing import Any

import tensorflow as tf


def l1(estimate: Any, target: Any) -> Any:
    """Mean absolute error, Spleeter's loss for one stem.

    Args:
        estimate: float32 [batch, frames, bins, channels], magnitudes.
        target: the same shape.

    Returns:
        float32 scalar, in units of magnitude.
    """
    return tf.reduce_mean(tf.abs(estimate - target))


def weighted_l1(estimate: Any, target: Any) -> Any:
    """Mean absolute error, each window weighted by its target's mean (Spleeter's weighted_L1_mask).

    Windows where the stem is silent have weight 0.

    Args:
        estimate: float32 [batch, frames, bins, channels], magnitudes.
        target: the same shape.

    Returns:
        float32 scalar, in units of magnitude squared.
    """
    weight = tf.reduce_mean(target, axis=[1, 2, 3], keepdims=True)
    return tf.reduce_mean(weight * tf.abs(estimate - target))

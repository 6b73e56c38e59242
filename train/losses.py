"""Training losses on magnitudes, per stem."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from stemforge.train.config import Loss


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

    Windows where the stem is silent weigh nothing.

    Args:
        estimate: float32 [batch, frames, bins, channels], magnitudes.
        target: the same shape.

    Returns:
        float32 scalar, in units of magnitude squared.
    """
    weight = tf.reduce_mean(target, axis=[1, 2, 3], keepdims=True)
    return tf.reduce_mean(weight * tf.abs(estimate - target))


LOSSES: dict[Loss, Callable[[Any, Any], Any]] = {"l1": l1, "weighted_l1": weighted_l1}

"""Training losses on magnitudes."""

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

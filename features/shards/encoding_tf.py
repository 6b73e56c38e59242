"""The TensorFlow twin of encoding.decode, for batches inside a graph."""

from typing import Any

import tensorflow as tf

from stemforge.features.shards.encoding import STEP_VARIANCE, STEPS


def decode(values: Any, scales: Any, segments: Any) -> Any:
    """Decodes a batch of windows.

    Args:
        values: [batch, frames, bins, channels] of the encoding's type.
        scales: float32 [batch, blocks, bins, channels]; not used unless values are uint8.
        segments: int32 [batch, frames], which of the blocks each frame comes from.

    Returns:
        float32 tensor [batch, frames, bins, channels], magnitudes.
    """
    decoded = tf.cast(values, tf.float32)
    if values.dtype != tf.uint8:
        return decoded
    decoded = decoded * decoded + tf.minimum(decoded, 1.0) * STEP_VARIANCE
    return decoded * tf.gather(scales * STEPS**-2, segments, batch_dims=1)

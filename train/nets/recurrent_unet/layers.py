"""Keras layers of the U-Nets with a recurrent bottleneck."""

from typing import Any

import keras
import tensorflow as tf
from keras import layers

MOST_LOG_SIGMA = 5.0


@keras.saving.register_keras_serializable("stemforge")
class CentreScale(layers.Layer):  # type: ignore[misc]
    """A learned scale and shift of each bin: y = x * scale + centre.

    Input shape: [batch, frames, bins, channels]. Output shape: the same.
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates scale (ones) and centre (zeros), float32 [bins, 1]."""
        shape = (input_shape[-2], 1)
        self.scale = self.add_weight(name="scale", shape=shape, initializer="ones")
        self.centre = self.add_weight(name="centre", shape=shape, initializer="zeros")

    def call(self, inputs: Any) -> Any:
        """Applies the map to each bin."""
        return inputs * self.scale + self.centre


@keras.saving.register_keras_serializable("stemforge")
class Latent(layers.Layer):  # type: ignore[misc]
    """In training a draw mu + sigma * eps, eps standard normal; otherwise mu.

    Training adds the KL divergence of N(mu, sigma) from N(0, 1), averaged over all values:
    (mu ** 2 + sigma ** 2 - ln(sigma ** 2) - 1) / 2 (Kingma, Welling 2014, appendix B). The
    logarithm of sigma is s * tanh(x / s) of its input x, s = 5: it cannot overflow, and its
    gradient reaches every x.

    Args:
        seed: of eps.

    Input shape: mu and x, each [batch, frames, units]. Output shape: the same.
    """

    def __init__(self, *, seed: int, **more: Any) -> None:
        super().__init__(**more)
        self._seed = seed
        self._random = keras.random.SeedGenerator(seed)

    def call(self, mu: Any, x: Any, training: bool = False) -> Any:
        """Draws, or takes the mean."""
        if not training:
            return mu
        mean = tf.cast(mu, tf.float32)
        log_sigma = MOST_LOG_SIGMA * tf.tanh(tf.cast(x, tf.float32) / MOST_LOG_SIGMA)
        sigma = tf.exp(log_sigma)
        self.add_loss(tf.reduce_mean(mean**2 + sigma**2 - 2.0 * log_sigma - 1.0) / 2.0)
        eps = keras.random.normal(tf.shape(mean), dtype="float32", seed=self._random)
        return tf.cast(mean + sigma * eps, mu.dtype)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "seed": self._seed}

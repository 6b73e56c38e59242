"""Optimizers with Spleeter's settings, schedules of the learning rate, averages of weights."""

import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from stemforge.errors import UserError
from stemforge.train.config import Optimization, Precision

# TensorFlow 1's defaults, which Spleeter uses.
ADAM_EPSILON = 1e-8
ADADELTA_EPSILON = 1e-8
ADADELTA_RHO = 0.95
MOST_LAYERS = 8  # that an error names


class _Own:
    """For Keras' optimizers: a learning rate of its own for each weight.

    Gradients are already summed over all replicas, and clipped; Keras would clip each replica's
    part first and then sum.

    Attributes:
        factors: of the learning rate, by weight in the order of `build`; empty: all 1.
    """

    factors: Sequence[float] = ()

    def rate_of(self, variable: Any, learning_rate: Any) -> Any:
        """The learning rate of one variable, as Keras passes it to update_step."""
        if not self.factors:
            return learning_rate
        number: int = self._get_variable_index(variable)  # type: ignore[attr-defined]
        return self.factors[number] * learning_rate

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> Any:
        return grads_and_vars


class Adadelta(_Own, keras.optimizers.Adadelta):  # type: ignore[misc]
    """Keras' Adadelta."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable by its own rate."""
        super().update_step(gradient, variable, self.rate_of(variable, learning_rate))


class SGD(_Own, keras.optimizers.SGD):  # type: ignore[misc]
    """Keras' gradient descent."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable by its own rate."""
        super().update_step(gradient, variable, self.rate_of(variable, learning_rate))


class Adam(_Own, keras.optimizers.Adam):  # type: ignore[misc]
    """Keras' Adam in TensorFlow's fused operation: one pass over memory instead of ten.

    Attributes:
        decay: of AdamW (Loshchilov and Hutter, Decoupled weight decay regularization, 2019):
            before each update, the weight loses this share times its own rate. Keras' own
            weight_decay would use the same rate for all weights.
    """

    decay: float | None = None

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable, which Keras passes as a tf.Variable."""
        number = self._get_variable_index(variable)
        rate = tf.cast(self.rate_of(variable, learning_rate), tf.float32)
        if self.decay is not None:
            variable.assign_sub(variable * self.decay * rate)
        step = tf.cast(self.iterations.value + 1, tf.float32)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[number].value.handle,
            v=self._velocities[number].value.handle,
            beta1_power=tf.pow(self.beta_1, step),
            beta2_power=tf.pow(self.beta_2, step),
            lr=rate,
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )


class LossScale:
    """Scales the loss of float16 nets, so that small gradients do not become zero.

    The scale doubles after 2000 good steps. A step whose gradients are not finite halves the
    scale and updates nothing (Micikevicius et al., Mixed precision training, 2018). For other
    precisions the scale is 1, and every step updates the weights.

    Args:
        optimizer: of float32 weights.
        precision: of the net.

    Attributes:
        skips_overflow: whether gradients that are not finite are no error.
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer, precision: Precision) -> None:
        self._scales = self.skips_overflow = precision == "mixed_float16"
        self.optimizer = (
            keras.optimizers.LossScaleOptimizer(optimizer) if self._scales else optimizer
        )

    def scaled(self, loss: Any) -> Any:
        """The scaled loss, whose gradients are computed."""
        return self.optimizer.scale_loss(loss) if self._scales else loss

    def unscaled(self, gradients: list[Any]) -> list[Any]:
        """Gradients of the unscaled loss."""
        if not self._scales:
            return gradients
        return [gradient / self.optimizer.dynamic_scale for gradient in gradients]

    def apply(self, gradients: list[Any], variables: list[Any]) -> None:
        """Updates the variables, inside a replica, by gradients of the unscaled loss."""
        if self._scales:  # Keras divides them by the scale
            gradients = [gradient * self.optimizer.dynamic_scale for gradient in gradients]
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))


def make_optimizer(config: Optimization, names: Sequence[str]) -> keras.optimizers.Optimizer:
    """The optimizer; it expects summed and clipped gradients, and a learning rate at each step.

    Args:
        config: how weights are updated.
        names: of the trained weights, in the order that it is built on.

    Raises:
        UserError: see rate_factors.
    """
    rate = config.learning_rate
    if config.optimizer in ("adam", "adamw"):
        optimizer = Adam(rate, epsilon=ADAM_EPSILON)
        optimizer.decay = config.weight_decay
    elif config.optimizer == "adadelta":
        optimizer = Adadelta(rate, rho=ADADELTA_RHO, epsilon=ADADELTA_EPSILON)
    else:
        optimizer = SGD(rate)
    if config.learning_rates:
        optimizer.factors = rate_factors(config.learning_rates, names)
    return optimizer


def rate_factors(rates: Mapping[str, float], names: Sequence[str]) -> tuple[float, ...]:
    """The factor of each weight's learning rate: that of the pattern that it matches, or 1.

    Args:
        rates: factors by pattern of the weights' names; "*" in it is any text, "?" any character.
        names: of the weights, such as "lstm_0/forward_lstm_0_forward/lstm_cell/kernel".

    Raises:
        UserError: a pattern matches no weight, or a weight matches two patterns: which of them
            comes first cannot decide, because DVC does not see the order of keys.
    """
    factors = []
    for name in names:
        found = [pattern for pattern in rates if fnmatchcase(name, pattern)]
        if len(found) > 1:
            raise UserError(
                f"train.learning_rates: {found[0]!r} and {found[1]!r} both match the weight "
                f"{name}: narrow one of them"
            )
        factors.append(rates[found[0]] if found else 1.0)
    for pattern in rates:
        if not any(fnmatchcase(name, pattern) for name in names):
            layers = [*dict.fromkeys(name.rpartition("/")[0] for name in names)]
            some = ", ".join(layers[:MOST_LAYERS]) + (", ..." if layers[MOST_LAYERS:] else "")
            raise UserError(
                f"train.learning_rates: {pattern!r} matches no weight of the net, whose layers "
                f"are {some}: use such a name, with * for any text, as in "
                f"{layers[0] + '/*'!r}"
            )
    return tuple(factors)


def learning_rate(config: Optimization, step: int, *, steps: int, plateaus: int) -> float:
    """The rate of one step.

    Args:
        config: the schedule.
        step: steps done before it.
        steps: of the whole run.
        plateaus: number of plateaus so far.

    Returns:
        learning_rate times (step + 1) / warmup_steps during the warm-up; then, for "cosine",
        times end + (1 - end) (1 + cos(pi x)) / 2 with x from 0 after the warm-up to 1 after
        the last step (Loshchilov and Hutter, SGDR, 2017), and for "plateau" times
        plateau_factor ** plateaus.
    """
    rate = config.learning_rate
    if config.schedule == "plateau" and config.plateau_factor is not None:
        rate *= config.plateau_factor**plateaus
    if step < config.warmup_steps:
        return rate * (step + 1) / config.warmup_steps
    if config.schedule == "cosine" and config.cosine_end is not None:
        share = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
        end = config.cosine_end
        return rate * (end + (1.0 - end) * (1.0 + math.cos(math.pi * share)) / 2.0)
    return rate


class MovingAverage:
    """Exponential moving average of a net's weights, for use in their place.

    Args:
        weights: the net's variables.
        momentum: share of the old average that each update keeps.
    """

    def __init__(self, weights: list[Any], momentum: float) -> None:
        self._weights = weights
        self._momentum = momentum
        self.averages = [
            keras.Variable(weight, trainable=False, dtype="float32", name="average")
            for weight in weights
        ]

    def start(self) -> None:
        """Sets the averages to the weights."""
        for average, weight in zip(self.averages, self._weights, strict=True):
            average.assign(weight)

    def update(self) -> None:
        """Updates the averages, inside a graph: average += (1 - momentum) (weight - average)."""
        for average, weight in zip(self.averages, self._weights, strict=True):
            average.assign_add((1.0 - self._momentum) * (weight - average))

    def swap(self) -> None:
        """Exchanges the weights and their averages."""
        for average, weight in zip(self.averages, self._weights, strict=True):
            held = np.asarray(weight).copy()
            weight.assign(average)
            average.assign(held)

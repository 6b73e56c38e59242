"""Optimizers, as Spleeter sets them, and the course of the learning rate."""

import math
from typing import Any

import keras
import numpy as np

from train.config import Optimization

# TensorFlow 1's defaults, which Spleeter uses.
ADAM_EPSILON = 1e-8
ADADELTA_EPSILON = 1e-8
ADADELTA_RHO = 0.95


def make_optimizer(config: Optimization) -> keras.optimizers.Optimizer:
    """The optimizer; its learning rate is assigned at each step."""
    rate, clip = config.learning_rate, config.clip_norm
    if config.optimizer == "adam":
        return keras.optimizers.Adam(rate, epsilon=ADAM_EPSILON, global_clipnorm=clip)
    if config.optimizer == "adamw":
        return keras.optimizers.AdamW(
            rate, epsilon=ADAM_EPSILON, weight_decay=config.weight_decay, global_clipnorm=clip
        )
    if config.optimizer == "adadelta":
        return keras.optimizers.Adadelta(
            rate, rho=ADADELTA_RHO, epsilon=ADADELTA_EPSILON, global_clipnorm=clip
        )
    return keras.optimizers.SGD(rate, global_clipnorm=clip)


def learning_rate(config: Optimization, step: int, *, steps: int, plateaus: int) -> float:
    """The rate of one step.

    Args:
        config: the course.
        step: steps done before it.
        steps: of the whole run.
        plateaus: seen so far.

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
    """Exponential moving average of a net's weights, which are then used in their place.

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
        """One step, inside a graph: average += (1 - momentum) (weight - average)."""
        for average, weight in zip(self.averages, self._weights, strict=True):
            average.assign_add((1.0 - self._momentum) * (weight - average))

    def swap(self) -> None:
        """Exchanges the weights and their averages."""
        for average, weight in zip(self.averages, self._weights, strict=True):
            held = np.asarray(weight).copy()
            weight.assign(average)
            average.assign(held)

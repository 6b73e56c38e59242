"""Optimizers against Keras' own, rates, schedules and averages by hand."""

import dataclasses
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from stemforge.errors import UserError
from stemforge.train.config import Optimization, OptimizerName
from stemforge.train.optimization import (
    LossScale,
    MovingAverage,
    learning_rate,
    make_optimizer,
    rate_factors,
)
from tests.test_train_trainer import ADAM


def steps(optimizer: keras.optimizers.Optimizer, random: np.random.Generator) -> list[np.ndarray]:
    """Weights after seven steps from the same start along the same gradients."""
    variables = [
        keras.Variable(random.normal(size=shape), dtype="float32") for shape in ((3, 4), (5,))
    ]
    optimizer.build(variables)

    @tf.function
    def move(*gradients: tf.Tensor) -> None:
        optimizer.apply_gradients(zip(gradients, variables, strict=True))

    for number in range(7):
        optimizer.learning_rate.assign(1e-2 / (1 + number))
        move(*[tf.constant(random.normal(size=v.shape), tf.float32) for v in variables])
    return [np.asarray(variable) for variable in variables]


@pytest.mark.parametrize("decay", [None, 0.1])
def test_the_fused_adam_is_keras_adam(decay: float | None) -> None:
    config = dataclasses.replace(ADAM, optimizer="adamw" if decay else "adam", weight_decay=decay)
    ours = steps(make_optimizer(config, ["a", "b"]), np.random.default_rng(1))
    peer = (
        keras.optimizers.AdamW(1e-2, epsilon=1e-8, weight_decay=decay)
        if decay
        else keras.optimizers.Adam(1e-2, epsilon=1e-8)
    )
    theirs = steps(peer, np.random.default_rng(1))
    plain = steps(keras.optimizers.Adam(1e-2, epsilon=1e-8), np.random.default_rng(1))
    for one, other, unlike in zip(ours, theirs, plain, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
        if decay:
            assert np.abs(one - unlike).max() > 1e-5


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "adadelta"])
def test_a_factor_is_another_learning_rate(optimizer: OptimizerName) -> None:
    """Two optimizers of Keras' own, each at the rate of its weight."""
    decay = 0.3 if optimizer == "adamw" else None
    config = dataclasses.replace(
        ADAM, optimizer=optimizer, weight_decay=decay, learning_rates={"lstm*": 0.25}
    )
    start = {"conv/kernel": np.array([1.0, -2.0]), "lstm/kernel": np.array([3.0, 0.5])}
    weights = [keras.Variable(value, dtype="float32") for value in start.values()]
    ours = LossScale(make_optimizer(config, [*start]), "mixed_float16")  # it wraps the optimizer
    ours.optimizer.build(weights)
    peers = {
        "sgd": keras.optimizers.SGD,
        "adam": lambda rate: keras.optimizers.Adam(rate, epsilon=1e-8),
        "adamw": lambda rate: keras.optimizers.AdamW(rate, epsilon=1e-8, weight_decay=0.3),
        "adadelta": lambda rate: keras.optimizers.Adadelta(rate, rho=0.95, epsilon=1e-8),
    }
    others = [keras.Variable(value, dtype="float32") for value in start.values()]
    theirs = [peers[optimizer](rate) for rate in (0.1, 0.025)]
    for gradient in (np.array([0.5, -1.0], np.float32), np.array([2.0, 0.25], np.float32)):
        ours.optimizer.learning_rate.assign(0.1)
        ours.apply([tf.constant(gradient)] * 2, weights)
        for peer, other in zip(theirs, others, strict=True):
            peer.apply([tf.constant(gradient)], [other])
    for one, other in zip(weights, others, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
    if optimizer == "sgd":  # 0.1 and 0.025 times the sum of the gradients
        np.testing.assert_allclose(weights[0], [1.0 - 0.25, -2.0 + 0.075], rtol=1e-6)
        np.testing.assert_allclose(weights[1], [3.0 - 0.0625, 0.5 + 0.01875], rtol=1e-6)


def test_patterns_of_learning_rates() -> None:
    names = ["encoder_0/kernel", "vocals_blstm_0/forward/kernel", "vocals_blstm_0/forward/bias"]
    assert rate_factors({"*blstm*/kernel": 0.1, "encoder_?/*": 2.0}, names) == (2.0, 0.1, 1.0)
    with pytest.raises(UserError) as caught:
        rate_factors({"*lstm*": 0.1, "gru*": 0.1}, names)
    assert str(caught.value) == (
        "train.learning_rates: 'gru*' matches no weight of the net, whose layers are encoder_0, "
        "vocals_blstm_0/forward: use such a name, with * for any text, as in 'encoder_0/*'"
    )
    with pytest.raises(UserError, match=r"'\*' and '\*bias' both match the weight vocals_blstm_0/"):
        rate_factors({"*": 0.1, "*bias": 0.1}, names)


def rates(config: Optimization, many: int, *, plateaus: int = 0) -> list[float]:
    return [learning_rate(config, step, steps=many, plateaus=plateaus) for step in range(many)]


def test_rates_by_hand() -> None:
    config = dataclasses.replace(ADAM, learning_rate=0.4)
    assert rates(config, 3) == [0.4] * 3
    warm = dataclasses.replace(config, warmup_steps=4)
    np.testing.assert_allclose(rates(warm, 6), [0.1, 0.2, 0.3, 0.4, 0.4, 0.4])
    cosine = dataclasses.replace(warm, schedule="cosine", cosine_end=0.5)
    # Half way after the warm-up: the middle of 0.4 and 0.2.
    np.testing.assert_allclose(rates(cosine, 12)[3:5], [0.4, 0.4])
    assert rates(cosine, 12)[8] == pytest.approx(0.3)
    last = 0.2 + 0.1 * (1 + math.cos(math.pi * 7 / 8))
    assert rates(cosine, 12)[11] == pytest.approx(last)
    plateau = dataclasses.replace(config, schedule="plateau", plateau_factor=0.1)
    np.testing.assert_allclose(rates(plateau, 2, plateaus=2), [0.004] * 2)
    assert rates(config, 1, plateaus=2) == [0.4]  # a constant rate does not fall


def test_averages_by_hand() -> None:
    weight = keras.Variable([1.0, 2.0])
    average = MovingAverage([weight], 0.75)
    average.start()
    weight.assign([5.0, 2.0])
    average.update()
    average.swap()
    np.testing.assert_allclose(weight, [2.0, 2.0])
    average.swap()
    np.testing.assert_allclose(weight, [5.0, 2.0])
    np.testing.assert_allclose(average.averages[0], [2.0, 2.0])

"""One step of a run on all replicas: nets, optimizer, loss, gradients."""

import functools
import operator
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from stemforge.train.batch import Batch
from stemforge.train.cluster import Cluster
from stemforge.train.config import LossName, TrainConfig
from stemforge.train.losses import Objective
from stemforge.train.model import set_weights
from stemforge.train.nets.protocol import Net
from stemforge.train.optimization import LossScale, MovingAverage, make_optimizer


class Step:
    """The net, optimizer and loss of a run's steps.

    Args:
        net: the nets' kind and shape.
        config: how they are trained.
        stems: targets.
        weights: to start from, by name; None: fresh ones.
        cluster: whose replicas share each batch.

    Attributes:
        model: the Keras model.
        optimizer: Keras' optimizer.
        loss: what is minimised; of a net's own losses, those with a name always have a weight.

    Raises:
        UserError: `weights` or the pattern of a learning rate are not of this net.
    """

    def __init__(
        self,
        net: Net,
        config: TrainConfig,
        *,
        stems: tuple[str, ...],
        weights: Mapping[str, NDArray[np.float32]] | None,
        cluster: Cluster,
    ) -> None:
        self._config = config
        self._cluster = cluster
        weights_of_losses = {**dict.fromkeys(net.own_losses, 1.0), **config.loss}
        self.loss = Objective(dict(sorted(weights_of_losses.items())))
        with cluster.strategy.scope():
            self.model = net.build(stems, seed=config.seed, precision=config.precision)
            if weights is not None:
                set_weights(self.model, weights)
            names = [variable.path for variable in self.model.trainable_variables]
            self._scale = LossScale(make_optimizer(config.optimization, names), config.precision)
            self.optimizer = self._scale.optimizer
            self.optimizer.build(self.model.trainable_variables)
            momentum = config.optimization.ema_momentum
            self._average = MovingAverage(self.model.weights, momentum) if momentum else None
            # 1 until a step is not finite, then 0: the factor of all gradients.
            self._going = keras.Variable(1.0, trainable=False, dtype="float32", name="going")
        self._valid_loss = tf.function(self._loss, reduce_retracing=True)

    @property
    def terms(self) -> tuple[LossName, ...]:
        """Names of the losses that are summed; none where there is one loss alone."""
        return tuple(self.loss.weights) if len(self.loss.weights) > 1 else ()

    def start(self) -> None:
        """Begins a run: sets the averages to the weights."""
        if self._average:
            self._average.start()

    def set_learning_rate(self, rate: float) -> None:
        """Sets the learning rate of the next steps."""
        self.optimizer.learning_rate.assign(rate)

    def train(self, *parts: Batch) -> Any:
        """Starts one step; it does not wait for a device that computes by itself, as GPUs do.

        A step whose loss or gradients are not finite stops the training inside the graph: from
        it on, all gradients are 0. (Gradients of float16 nets may overflow: LossScale.)

        Args:
            parts: this worker's share of the step's batches, a part for each of its replicas.

        Returns:
            float32 tensor [3 + len(self.terms)], on the device: mean loss of the step's batches,
            global norm of its gradients before clipping, 1, or 0 where this or an earlier step is
            not finite, and the values of the terms.
        """
        return self._train(self._cluster.spread(parts))

    def validation_loss(self, batch: Batch) -> float:
        """The loss of a batch, on the first device of this worker."""
        return float(self._valid_loss(batch)[0])

    def gradients(self, batch: Batch) -> dict[str, Any]:
        """Gradients of a batch by weight, on the first device of this worker.

        Nothing changes: dropout is off, and norms use their moving statistics.
        """

        def run(batch: Batch) -> Any:
            with tf.GradientTape() as tape:
                loss, _ = self._loss(batch)
            variables = self.model.trainable_variables
            found = tape.gradient(loss, variables)
            # Without its noise a latent's deviation has no effect: its gradient is 0.
            return [
                tf.zeros(variable.shape) if gradient is None else gradient
                for gradient, variable in zip(found, variables, strict=True)
            ]

        paths = [variable.path for variable in self.model.trainable_variables]
        return dict(zip(paths, tf.function(run)(batch), strict=True))

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """While it lasts, the model has the weights that are validated: averages, if kept."""
        if self._average:
            self._average.swap()
        try:
            yield
        finally:
            if self._average:
                self._average.swap()

    def variables(self) -> dict[str, Any]:
        """All that a checkpoint holds. By place and shape: Keras numbers names on and on."""
        optimizer = self._config.optimization.optimizer
        parts = {"net": self.model.variables, optimizer: self.optimizer.variables}
        if self._average:
            parts["average"] = self._average.averages
        return {
            f"{part} {number} {'x'.join(map(str, variable.shape))}": variable
            for part, variables in parts.items()
            for number, variable in enumerate(variables)
        }

    @functools.cached_property
    def _train(self) -> Any:
        strategy = self._cluster.strategy

        def step(batch: Batch) -> Any:
            results = strategy.run(self._replica, args=(batch,))
            result = strategy.experimental_local_results(results)[0]  # the same on all replicas
            self._going.assign(result[2])
            if self._average:
                self._average.update()
            return result

        return tf.function(step)

    def _replica(self, batch: Batch) -> Any:
        """One replica's part of a step: it has its own windows, and the whole batch's gradients."""
        variables = self.model.trainable_variables
        loss, terms, gradients = self._accumulated(batch)
        if self._cluster.replicas > 1:
            context = tf.distribute.get_replica_context()
            loss, terms, gradients = context.all_reduce("sum", (loss, terms, gradients))
        norm = tf.linalg.global_norm(gradients)
        if clip := self._config.optimization.clip_norm:
            gradients, _ = tf.clip_by_global_norm(gradients, clip, use_norm=norm)
        finite = tf.math.is_finite(loss if self._scale.skips_overflow else loss + norm)
        going = tf.convert_to_tensor(self._going) * tf.cast(finite, tf.float32)
        # No condition: the host would have to wait for its outcome.
        gradients = [tf.math.multiply_no_nan(gradient, going) for gradient in gradients]
        self._scale.apply(gradients, variables)
        return tf.stack([loss, norm, going, *terms])

    def _accumulated(self, batch: Batch) -> tuple[Any, list[Any], list[Any]]:
        """Means of loss, terms and gradients over a replica's batches, one after the other.

        The graph holds each batch's operations: norms that replicas share cannot be in a loop.
        """
        many = self._config.accumulate_steps
        if many == 1:
            return self._loss_and_gradients(batch)
        size, sums = batch.mixture.shape[0] // many, None
        done: list[Any] = []
        for start in range(0, many * size, size):
            part = operator.itemgetter(slice(start, start + size))
            with tf.control_dependencies(done):  # else all batches would be in memory at once
                found = tf.nest.flatten(
                    self._loss_and_gradients(tf.nest.map_structure(part, batch))
                )
                sums = found if sums is None else [s + v for s, v in zip(sums, found, strict=True)]
                done = [tf.group(*sums)]
        assert sums is not None
        loss, *rest = [values / many for values in sums]
        return loss, rest[: len(self.terms)], rest[len(self.terms) :]

    def _loss_and_gradients(self, batch: Batch) -> tuple[Any, list[Any], list[Any]]:
        """A replica's share of the loss of one batch, of its terms, and of its gradients."""
        replicas = self._cluster.replicas
        with tf.GradientTape() as tape:
            loss, values = self._loss(batch, training=True)
            loss, *terms = (part / replicas for part in (loss, *map(values.get, self.terms)))
            scaled = self._scale.scaled(loss)
        gradients = tape.gradient(scaled, self.model.trainable_variables)
        return loss, terms, self._scale.unscaled(gradients)

    def _own_losses(self) -> list[Any]:
        """What the net has added on this replica: Keras keeps those of all replicas in one list."""
        here = tf.zeros([]).device
        return [value for value in self.model.losses if value.device == here]

    def _loss(self, batch: Batch, training: bool = False) -> tuple[Any, dict[LossName, Any]]:
        """What is minimised, and the losses whose weighted sum it is."""
        estimates = self.model(batch.mixture, training=training)
        own = self._own_losses()
        values = self.loss.values(batch, estimates, stem_weights=self._config.stem_weights, own=own)
        return self.loss.total(values, own=own), values

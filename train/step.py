"""One step of a run on all replicas: nets, optimizer, loss, gradients."""

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from stemforge.train.batch import Batch
from stemforge.train.cluster import Cluster
from stemforge.train.config import TrainConfig
from stemforge.train.losses import LOSSES, Loss, total
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
        loss: what is minimised, apart from the net's own losses.

    Raises:
        UserError: `weights` are not of this net.
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
        self.loss: Loss = LOSSES[config.loss]
        with cluster.strategy.scope():
            self.model = net.build(stems, seed=config.seed, precision=config.precision)
            if weights is not None:
                set_weights(self.model, weights)
            self._scale = LossScale(make_optimizer(config.optimization), config.precision)
            self.optimizer = self._scale.optimizer
            self.optimizer.build(self.model.trainable_variables)
            momentum = config.optimization.ema_momentum
            self._average = MovingAverage(self.model.weights, momentum) if momentum else None
        self._valid_loss = tf.function(self._loss, reduce_retracing=True)

    def start(self) -> None:
        """Begins a run: sets the averages to the weights."""
        if self._average:
            self._average.start()

    def set_learning_rate(self, rate: float) -> None:
        """Sets the learning rate of the next steps."""
        self.optimizer.learning_rate.assign(rate)

    def train(self, batch: Batch) -> tuple[float, float]:
        """One step on this worker's share of a batch.

        Returns:
            Loss of the whole batch, and the global norm of its gradients before clipping.
        """
        loss, norm = self._train(self._cluster.spread(batch))
        return float(loss), float(norm)

    def validation_loss(self, batch: Batch) -> float:
        """The loss of a batch, on the first device of this worker."""
        return float(self._valid_loss(batch))

    def gradients(self, batch: Batch) -> dict[str, Any]:
        """Gradients of a batch by weight, on the first device of this worker.

        Nothing changes: dropout is off, and norms use their moving statistics.
        """

        def run(batch: Batch) -> Any:
            with tf.GradientTape() as tape:
                loss = self._loss(batch)
            return tape.gradient(loss, self.model.trainable_variables)

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

        def step(batch: Batch) -> tuple[Any, Any]:
            results = strategy.run(self._replica, args=(batch,))
            if self._average:
                self._average.update()
            # The same on all replicas.
            return tuple(strategy.experimental_local_results(result)[0] for result in results)

        return tf.function(step)

    def _replica(self, batch: Batch) -> tuple[Any, Any]:
        """One replica's part of a step: it has its own windows, and the whole batch's gradients."""
        replicas, variables = self._cluster.replicas, self.model.trainable_variables
        with tf.GradientTape() as tape:
            loss = self._loss(batch, training=True) / replicas
            scaled = self._scale.scaled(loss)
        gradients = self._scale.unscaled(tape.gradient(scaled, variables))
        if replicas > 1:
            context = tf.distribute.get_replica_context()
            loss, *gradients = context.all_reduce("sum", [loss, *gradients])
        norm = tf.linalg.global_norm(gradients)
        if clip := self._config.optimization.clip_norm:
            gradients, _ = tf.clip_by_global_norm(gradients, clip, use_norm=norm)
        self._scale.apply(gradients, variables)
        return loss, norm

    def _loss(self, batch: Batch, training: bool = False) -> Any:
        estimates = self.model(batch.mixture, training=training)
        return total(
            self.loss,
            batch,
            estimates,
            stem_weights=self._config.stem_weights,
            own=self.model.losses,
        )

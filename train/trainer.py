"""The training loop of one model, safe to stop and go on at any moment."""

import functools
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from stemforge.errors import Interrupted, UserError
from stemforge.train.checkpoints import Checkpoints, State
from stemforge.train.cluster import Cluster
from stemforge.train.config import Net, TrainConfig
from stemforge.train.dataset import Batch, Dataset
from stemforge.train.losses import LOSSES
from stemforge.train.model import set_weights, weights_of
from stemforge.train.model_files import model_name
from stemforge.train.nets import unet
from stemforge.train.optimization import LossScale, MovingAverage, learning_rate, make_optimizer

Row = dict[str, Any]
COLUMNS = ("step", "loss", "valid_loss", "learning_rate")


@dataclass(frozen=True)
class Report:
    """What is known after a step.

    Attributes:
        state: after the step.
        loss: of its batch.
        gradient_norm: global norm of its gradients, before clipping.
        learning_rate: that it used.
        waiting: share of the time since the first step here that was spent waiting for input.
        row: the row of history that it wrote, if any.
    """

    state: State
    loss: float
    gradient_norm: float
    learning_rate: float
    waiting: float
    row: Row | None


class Trainer:
    """Trains the nets of one model.

    Args:
        net: their shape.
        config: how they are trained.
        stems: targets.
        work: folder for checkpoints; a run that finds one there goes on from it. None for
            workers that are not the chief: they go on from his.
        weights: to start from, by name; None: fresh ones.
        cluster: whose replicas share each batch; None: one device.

    Raises:
        UserError: `weights`, or a checkpoint in `work`, are not of this net, or the batch cannot
            be shared equally.
    """

    def __init__(
        self,
        net: Net,
        config: TrainConfig,
        *,
        stems: tuple[str, ...],
        work: Path | None,
        weights: Mapping[str, NDArray[np.float32]] | None = None,
        cluster: Cluster | None = None,
    ) -> None:
        tf.config.experimental.enable_op_determinism()
        keras.utils.set_random_seed(config.seed)
        self._cluster = cluster or Cluster()
        self._cluster.check_batch(config.batch_size)
        self._stems = stems
        self._name = model_name(stems)
        self._config = config
        self._checkpoints = None if work is None else Checkpoints(work)
        self._valid_step = tf.function(self._loss, reduce_retracing=True)
        self.state = State()
        with self._cluster.strategy.scope():
            self.model = unet.build(net, stems, seed=config.seed, precision=config.precision)
            if weights is not None:
                set_weights(self.model, weights)
            self._scale = LossScale(make_optimizer(config.optimization), config.precision)
            self.optimizer = self._scale.optimizer
            self.optimizer.build(self.model.trainable_variables)
            momentum = config.optimization.ema_momentum
            self._average = MovingAverage(self.model.weights, momentum) if momentum else None
            self._restore()

    @property
    def finished(self) -> bool:
        """Whether no step is left to do."""
        return is_finished(self.state, self._config)

    def fit(
        self,
        dataset: Dataset,
        *,
        report: Callable[[Report], object] = lambda _: None,
        should_stop: Callable[[], int] = lambda: 0,
    ) -> None:
        """Runs all remaining steps; then the chief loads the best weights.

        Args:
            dataset: of the same stems and window; its train and valid splits are read.
            report: called after each step.
            should_stop: called after each step; a signal's number, at any worker, ends the run
                with a checkpoint, 0 lets it go on.

        Raises:
            UserError: a loss or weight is not finite, no song is as long as a window, a
                record is damaged, or a checkpoint cannot be written.
            Interrupted: `should_stop` said so.
        """
        config, cluster = self._config, self._cluster
        batches = dataset.training(
            sampling=config.sampling,
            seed=config.seed,
            start_step=self.state.step,
            steps=config.steps,
            share=cluster.share,
        )
        pace = _Pace()
        while not self.finished:
            with pace.waiting():
                batch = next(batches)
            rate = learning_rate(
                config.optimization,
                self.state.step,
                steps=config.steps,
                plateaus=self.state.plateaus,
            )
            self.optimizer.learning_rate.assign(rate)
            loss, norm = map(float, self.train_step(*batch))
            if not np.isfinite(loss):
                raise self._not_finite(f"loss is {loss}", dataset, step=self.state.step)
            row = self._after_step(loss, rate, dataset)
            pace.step_done()
            report(Report(self.state, loss, norm, rate, pace.share, row))
            if signal := int(cluster.gather([should_stop()]).max()):
                self._save(dataset)
                cluster.wait()
                raise Interrupted(
                    f"train@{self._name}: stopped at step {self.state.step} of {config.steps}; "
                    "the next run goes on from there",
                    signal,
                )
        if self.state.best and self._checkpoints:
            _, step = self.state.best[0]
            set_weights(self.model, self._checkpoints.best_weights(step))
        cluster.wait()

    def train_step(self, mixture: Any, *targets: Any) -> tuple[Any, Any]:
        """One step on this worker's share of a batch, float32 [windows, frames, bins, 2] each.

        Returns:
            Loss of the whole batch, and the global norm of its gradients before clipping.
        """
        found: tuple[Any, Any] = self._train_step(*self._cluster.spread((mixture, *targets)))
        return found

    @functools.cached_property
    def _train_step(self) -> Any:
        strategy = self._cluster.strategy

        def step(*batch: Any) -> tuple[Any, Any]:
            results = strategy.run(self._replica_step, args=batch)
            if self._average:
                self._average.update()
            # The same on all replicas.
            return tuple(strategy.experimental_local_results(result)[0] for result in results)

        return tf.function(step)

    def _replica_step(self, *batch: Any) -> tuple[Any, Any]:
        """One replica's part of a step: it sees its windows, and the whole batch's gradients."""
        replicas, variables = self._cluster.replicas, self.model.trainable_variables
        with tf.GradientTape() as tape:
            loss = self._loss(*batch, training=True) / replicas
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

    def _loss(self, mixture: Any, *targets: Any, training: bool = False) -> Any:
        estimates = self.model(mixture, training=training)
        loss = LOSSES[self._config.loss]
        return tf.add_n(
            [loss(estimates[s], target) for s, target in zip(self._stems, targets, strict=True)]
        )

    def gradients(self, batch: Batch) -> dict[str, Any]:
        """Gradients of a batch by weight, on the first device of this worker.

        Nothing changes: dropout is off, and norms use their moving statistics.
        """

        def run(*batch: Any) -> Any:
            with tf.GradientTape() as tape:
                loss = self._loss(*batch)
            return tape.gradient(loss, self.model.trainable_variables)

        paths = [variable.path for variable in self.model.trainable_variables]
        return dict(zip(paths, tf.function(run)(*batch), strict=True))

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

    def _after_step(self, loss: float, rate: float, dataset: Dataset) -> Row | None:
        config, state = self._config, self.state
        state.step += 1
        state.pending.append(loss)
        row: Row | None = None
        validates = state.step == config.steps or state.step % config.validate_every_steps == 0
        if validates or state.step % config.log_every_steps == 0:
            valid_loss = self._validate(dataset) if validates else None
            mean = float(np.mean(state.pending))
            row = dict(zip(COLUMNS, (state.step, mean, valid_loss, rate), strict=True))
            state.pending.clear()
            state.history.append(row)
        if self.finished or state.step % config.checkpoint_every_steps == 0:
            self._save(dataset)
        return row

    def _validate(self, dataset: Dataset) -> float:
        """Validation loss; notes what it says about the best weights and plateaus."""
        state, config = self.state, self._config
        with self.evaluating():
            batches = dataset.validation(
                max_windows=config.validation_windows, share=self._cluster.share
            )
            loss = self._mean_loss(batches)
            if not np.isfinite(loss):
                raise self._not_finite(f"validation loss is {loss}", dataset, step=state.step - 1)
            improved = not state.best or loss < state.best[0][0]
            best = sorted([*state.best, (loss, state.step)])[: config.keep_best]
            if (loss, state.step) in best and self._checkpoints:
                self._checkpoints.save_best(state.step, weights_of(self.model))
            state.best = best
        patience = config.optimization.patience
        state.stale = 0 if improved else state.stale + 1
        if patience is not None and state.stale >= patience:
            state.plateaus += 1
            state.stale = 0
        return loss

    def _mean_loss(self, batches: Iterable[Batch]) -> float:
        """Mean of the loss over all workers' batches, weighted by the windows in each."""
        sums = np.zeros(2)
        for batch in batches:
            windows = len(batch[0])
            sums += windows * float(self._valid_step(*batch)), windows
        ((total, count),) = self._cluster.sum([sums])
        return float(total / count)

    def _not_finite(self, what: str, dataset: Dataset, *, step: int) -> UserError:
        config = self._config
        kept = self._checkpoints.latest() if self._checkpoints else None
        windows = dataset.describe(step, sampling=config.sampling, seed=config.seed)
        return UserError(
            f"train@{self._name}: {what} after step {step}, whose windows are {windows}: "
            "lower train.learning_rate or set train.clip_norm; "
            + (f"the checkpoint of step {kept.step} is kept" if kept else "no checkpoint yet")
        )

    def _variables(self) -> dict[str, Any]:
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

    def _save(self, dataset: Dataset) -> None:
        values = {name: np.asarray(variable) for name, variable in self._variables().items()}
        for name, value in values.items():
            if not np.isfinite(value).all():
                step = self.state.step - 1
                raise self._not_finite(f"{name} is not finite", dataset, step=step)
        if self._checkpoints:
            self._checkpoints.save(self.state, values)

    def _restore(self) -> None:
        """Loads the chief's newest checkpoint; without one, all start with its weights."""
        cluster, variables = self._cluster, self._variables()
        state = self._checkpoints.latest() if self._checkpoints else None
        if self._checkpoints and state:
            values = self._checkpoints.variables(variables)
        else:
            if self._average:
                self._average.start()
            values = {name: np.asarray(variable) for name, variable in variables.items()}
        if cluster.workers > 1:
            text = cluster.text_from_chief(state.to_json() if state else "")
            state = State.of_json(text) if text else None
            values = dict(zip(values, cluster.from_chief(list(values.values())), strict=True))
        self.state = state or State()
        for name, variable in variables.items():
            variable.assign(values[name])


class _Pace:
    """Share of the time that goes into waiting, from the end of the first step on."""

    def __init__(self) -> None:
        self._waited = 0.0
        self._started: float | None = None
        self._now = 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the time inside."""
        started = time.perf_counter()
        yield
        self._waited += time.perf_counter() - started

    def step_done(self) -> None:
        """Begins to count after the first step, which starts threads and traces graphs."""
        self._now = time.perf_counter()
        if self._started is None:
            self._started, self._waited = self._now, 0.0

    @property
    def share(self) -> float:
        """In [0, 1]."""
        if self._started is None or self._now == self._started:
            return 0.0
        return self._waited / (self._now - self._started)


def is_finished(state: State, config: TrainConfig) -> bool:
    """Whether a run has no step left to do."""
    most = config.optimization.max_plateaus
    return state.step >= config.steps or (most is not None and state.plateaus >= most)


def history_csv(history: Iterable[Mapping[str, Any]]) -> str:
    """History as CSV text; valid_loss is nan between validations, which plots leave out."""
    lines = [
        ",".join("nan" if row[name] is None else f"{row[name]:.9g}" for name in COLUMNS)
        for row in history
    ]
    return "\n".join(itertools.chain([",".join(COLUMNS)], lines)) + "\n"

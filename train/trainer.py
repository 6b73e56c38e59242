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

from features.errors import Interrupted, UserError
from features.models import JOINT
from train import unet
from train.checkpoints import Checkpoints, State
from train.config import Net, TrainConfig
from train.dataset import Batch, Dataset
from train.losses import LOSSES
from train.optimization import MovingAverage, learning_rate, make_optimizer

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
        work: folder for checkpoints; a run that finds one there goes on from it.
        weights: to start from, by name; None: fresh ones.
        strategy: TensorFlow's, whose replicas share each batch; None: one device.

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
        work: Path,
        weights: Mapping[str, NDArray[np.float32]] | None = None,
        strategy: tf.distribute.Strategy | None = None,
    ) -> None:
        tf.config.experimental.enable_op_determinism()
        keras.utils.set_random_seed(config.seed)
        self._strategy = strategy or tf.distribute.get_strategy()
        self._replicas = self._strategy.num_replicas_in_sync
        if config.batch_size % self._replicas:
            raise UserError(
                f"train.batch_size={config.batch_size}: {self._replicas} replicas cannot share it "
                "equally"
            )
        self._stems = stems
        self._name = stems[0] if len(stems) == 1 else JOINT
        self._config = config
        self.checkpoints = Checkpoints(work)
        self._valid_step = tf.function(self._loss, reduce_retracing=True)
        self.state = State()
        with self._strategy.scope():
            self.model = unet.build(net, stems, seed=config.seed, precision=config.precision)
            if weights is not None:
                unet.set_weights(self.model, weights)
            self.optimizer = make_optimizer(config.optimization)
            self.optimizer.build(self.model.trainable_variables)
            momentum = config.optimization.ema_momentum
            self._average = MovingAverage(self.model.weights, momentum) if momentum else None
            self._restore()

    @property
    def finished(self) -> bool:
        """Whether no step is left to do."""
        config, most = self._config, self._config.optimization.max_plateaus
        return self.state.step >= config.steps or (most is not None and self.state.plateaus >= most)

    def fit(
        self,
        dataset: Dataset,
        *,
        report: Callable[[Report], object] = lambda _: None,
        should_stop: Callable[[], int] = lambda: 0,
    ) -> None:
        """Runs all remaining steps, then loads the best weights.

        Args:
            dataset: of the same stems and window; its train and valid splits are read.
            report: called after each step.
            should_stop: called after each step; a signal's number ends the run with a
                checkpoint, 0 lets it go on.

        Raises:
            UserError: a loss or weight is not finite, no song is as long as a window, a
                record is damaged, or a checkpoint cannot be written.
            Interrupted: `should_stop` said so.
        """
        config = self._config
        batches = dataset.training(
            sampling=config.sampling,
            seed=config.seed,
            start_step=self.state.step,
            steps=config.steps,
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
            if signal := should_stop():
                self._save(dataset)
                raise Interrupted(
                    f"train@{self._name}: stopped at step {self.state.step} of {config.steps}; "
                    "the next run goes on from there",
                    signal,
                )
        if self.state.best:
            _, step = self.state.best[0]
            unet.set_weights(self.model, self.checkpoints.best_weights(step))

    def train_step(self, mixture: Any, *targets: Any) -> tuple[Any, Any]:
        """One step on a global batch, float32 [batch, frames, bins, 2] each.

        Returns:
            Loss, and the global norm of its gradients before clipping.
        """
        found: tuple[Any, Any] = self._train_step(*self._shares(mixture, *targets))
        return found

    @functools.cached_property
    def _train_step(self) -> Any:
        def step(*batch: Any) -> tuple[Any, Any]:
            loss, norm = self._strategy.run(self._replica_step, args=batch)
            if self._average:
                self._average.update()
            return self._sum(loss), self._first(norm)

        return tf.function(step)

    def _replica_step(self, *batch: Any) -> tuple[Any, Any]:
        loss, gradients = self._replica_gradients(*batch)
        norm = tf.linalg.global_norm(gradients)
        # Clipped here and not by Keras, which would clip each replica's part of the sum.
        if clip := self._config.optimization.clip_norm:
            gradients, _ = tf.clip_by_global_norm(gradients, clip, use_norm=norm)
        if self._replicas > 1:  # Keras adds them up once more
            gradients = [gradient / self._replicas for gradient in gradients]
        variables = self.model.trainable_variables
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return loss, norm

    def _replica_gradients(self, *batch: Any) -> tuple[Any, list[Any]]:
        """A replica's part of the loss, and the gradients of the whole batch."""
        with tf.GradientTape() as tape:
            loss = self._loss(*batch, training=True) / self._replicas
        gradients = tape.gradient(loss, self.model.trainable_variables)
        if self._replicas > 1:
            gradients = tf.distribute.get_replica_context().all_reduce("sum", gradients)
        return loss, gradients

    def _shares(self, *batch: Any) -> Batch:
        """Each replica's windows of a global batch."""
        if self._replicas == 1:
            return batch
        size = self._config.batch_size // self._replicas

        def share(whole: Any) -> Any:
            return self._strategy.experimental_distribute_values_from_function(
                lambda context: whole[
                    context.replica_id_in_sync_group * size : (context.replica_id_in_sync_group + 1)
                    * size
                ]
            )

        return tuple(map(share, batch))

    def _sum(self, values: Any) -> Any:
        return self._strategy.reduce("sum", values, axis=None)

    def _first(self, values: Any) -> Any:
        """Of values that are the same on all replicas."""
        return self._strategy.experimental_local_results(values)[0]

    def _loss(self, mixture: Any, *targets: Any, training: bool = False) -> Any:
        estimates = self.model(mixture, training=training)
        loss = LOSSES[self._config.loss]
        return tf.add_n(
            [loss(estimates[s], target) for s, target in zip(self._stems, targets, strict=True)]
        )

    def gradients(self, batch: Batch) -> dict[str, Any]:
        """Gradients of one global batch by weight, without a step."""

        def run(*shares: Any) -> list[Any]:
            _, gradients = self._strategy.run(self._replica_gradients, args=shares)
            return [self._first(gradient) for gradient in gradients]

        paths = [variable.path for variable in self.model.trainable_variables]
        return dict(zip(paths, tf.function(run)(*self._shares(*batch)), strict=True))

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
            batches = dataset.validation(max_windows=config.validation_windows)
            loss = mean_loss(batches, self._valid_step)
            if not np.isfinite(loss):
                raise self._not_finite(f"validation loss is {loss}", dataset, step=state.step - 1)
            improved = not state.best or loss < state.best[0][0]
            best = sorted([*state.best, (loss, state.step)])[: config.keep_best]
            if (loss, state.step) in best:
                self.checkpoints.save_best(state.step, unet.weights(self.model))
            state.best = best
        patience = config.optimization.patience
        state.stale = 0 if improved else state.stale + 1
        if patience is not None and state.stale >= patience:
            state.plateaus += 1
            state.stale = 0
        return loss

    def _not_finite(self, what: str, dataset: Dataset, *, step: int) -> UserError:
        config, kept = self._config, self.checkpoints.latest()
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
        self.checkpoints.save(self.state, values)

    def _restore(self) -> None:
        """Loads the newest checkpoint, if there is one."""
        state = self.checkpoints.latest()
        variables = self._variables()
        if state is not None:
            self.state = state
            values = self.checkpoints.variables(variables)
            for name, variable in variables.items():
                variable.assign(values[name])
        elif self._average:
            self._average.start()


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


def mean_loss(batches: Iterable[Batch], loss: Callable[..., Any]) -> float:
    """Mean of a loss over batches, weighted by the windows in each."""
    total, count = 0.0, 0
    for batch in batches:
        total += float(loss(*batch)) * len(batch[0])
        count += len(batch[0])
    return total / count


def history_csv(history: Iterable[Mapping[str, Any]]) -> str:
    """History as CSV text; valid_loss is empty between validations."""
    lines = [
        ",".join("" if row[name] is None else f"{row[name]:.9g}" for name in COLUMNS)
        for row in history
    ]
    return "\n".join(itertools.chain([",".join(COLUMNS)], lines)) + "\n"

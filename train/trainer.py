"""The training loop of one model; it can be stopped and resumed at any time."""

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
from stemforge.train.batch import Batch
from stemforge.train.checkpoints import Checkpoints, State
from stemforge.train.cluster import Cluster
from stemforge.train.config import TrainConfig
from stemforge.train.dataset import Dataset
from stemforge.train.model import set_weights, weights_of
from stemforge.train.model_files import model_name
from stemforge.train.nets.protocol import Net
from stemforge.train.optimization import learning_rate
from stemforge.train.step import Step

Row = dict[str, Any]
COLUMNS = ("step", "loss", "valid_loss", "learning_rate")
VALID_SDR = "valid_sdr"  # one more column, where the SDR is measured


@dataclass(frozen=True)
class Report:
    """What is known when a step has been started.

    Attributes:
        state: after the step.
        done: steps that the device is known to have done; the first one of this process, then
            at least each that ends a row of history.
        loss: of the last step that is done, the mean over its batches.
        gradient_norm: global norm of that step's gradients, before clipping.
        learning_rate: of the step.
        waiting: share of the time since this process' first step that was spent waiting for input.
        row: the row of history that the step added, if any.
    """

    state: State
    done: int
    loss: float
    gradient_norm: float
    learning_rate: float
    waiting: float
    row: Row | None


class Trainer:
    """Trains the nets of one model.

    Args:
        net: their kind and shape.
        config: how they are trained.
        stems: targets.
        work: folder for checkpoints; a run that finds one there resumes from it. None for
            workers other than the chief: they resume from the chief's checkpoint.
        weights: to start from, by name; None: fresh ones.
        cluster: the replicas that share each batch; None: one device.

    Attributes:
        step: nets and optimizer.
        state: of the run.

    Raises:
        UserError: `weights`, or a checkpoint in `work`, are not of this net, or the replicas
            cannot share the batch equally.
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
        self._name = model_name(stems)
        self._config = config
        self._measure_sdr: Callable[[], float] | None = None
        self._checkpoints = None if work is None else Checkpoints(work)
        self.state = State()
        self._running: list[Any] = []  # results of steps, as Step.train returns them
        self._loss = self._norm = float("nan")
        self.step = Step(net, config, stems=stems, weights=weights, cluster=self._cluster)
        with self._cluster.strategy.scope():
            self._restore()

    @property
    def model(self) -> keras.Model:
        """The Keras model."""
        return self.step.model

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
        measure_sdr: Callable[[], float] | None = None,
    ) -> None:
        """Runs all remaining steps; then the chief loads the best weights.

        Args:
            dataset: of the same stems and window; its train and valid splits are read.
            report: called after each step, which a device may still be computing.
            should_stop: called after each step; a signal's number, at any worker, ends the run
                with a checkpoint; 0 continues it.
            measure_sdr: of the chief, where config.sdr_songs asks for it: called at each
                validation; gives the SDR in dB of the model as it is then.

        Raises:
            UserError: a loss, gradient or weight is not finite, no song is as long as a window, a
                record is damaged, or a checkpoint cannot be written.
            Interrupted: `should_stop` returned a signal's number.
        """
        config, cluster = self._config, self._cluster
        self._measure_sdr = measure_sdr
        batches = self._batches(dataset)
        pace = _Pace()
        while not self.finished:
            with pace.waiting():
                parts = next(batches)
            rate = learning_rate(
                config.optimization,
                self.state.step,
                steps=config.steps,
                plateaus=self.state.validations.plateaus,
            )
            self.step.set_learning_rate(rate)
            self._running.append(self.step.train(*parts))
            self.state.step += 1
            row = self._after_step(rate, dataset)
            if pace.is_new:
                self.collect(dataset)
            pace.step_done()
            done = self.state.step - len(self._running)
            report(Report(self.state, done, self._loss, self._norm, rate, pace.share, row))
            if signal := int(cluster.gather([should_stop()]).max()):
                self._save(dataset)
                cluster.wait()
                raise Interrupted(
                    f"train@{self._name}: stopped at step {self.state.step} of {config.steps}; "
                    "the next run resumes there",
                    signal,
                )
        if self.state.validations.best and self._checkpoints:
            _, step = self.state.validations.best[0]
            set_weights(self.model, self._checkpoints.best_weights(step))
        cluster.wait()

    def collect(self, dataset: Dataset) -> None:
        """Waits until the device has done all steps, and takes their losses from it.

        Whoever writes weights calls it first: weights are finite if all steps were.

        Args:
            dataset: of the steps.

        Raises:
            UserError: a loss or gradient is not finite.
        """
        if not self._running:
            return
        results = np.asarray(tf.stack(self._running)).tolist()
        self._running.clear()
        for step, result in enumerate(results, self.state.step - len(results)):
            loss, norm, going, *terms = result
            if not going:
                what = f"gradients' norm is {norm}" if np.isfinite(loss) else f"loss is {loss}"
                raise self._not_finite(what, dataset, step=step)
            self.state.pending.append(loss)
            self.state.pending_terms.append(terms)
            self._loss, self._norm = loss, norm

    def _batches(self, dataset: Dataset) -> Iterator[tuple[Batch, ...]]:
        """Each remaining step's windows, a part for each of this worker's replicas."""
        config = self._config
        parts = [
            dataset.training(
                sampling=config.sampling,
                seed=config.seed,
                start_step=self.state.step,
                steps=config.steps,
                share=share,
                device=device,
                phases=self.step.loss.needs_phases,
                waveforms=self.step.loss.needs_waveforms,
            )
            for share, device in self._cluster.places
        ]
        return zip(*parts, strict=True)

    def _after_step(self, rate: float, dataset: Dataset) -> Row | None:
        config, state = self._config, self.state
        row: Row | None = None
        validates = state.step == config.steps or state.step % config.validate_every_steps == 0
        if validates or state.step % config.log_every_steps == 0:
            self.collect(dataset)
            valid_loss, valid_sdr = self._validate(dataset) if validates else (None, None)
            mean = float(np.mean(state.pending))
            row = dict(zip(COLUMNS, (state.step, mean, valid_loss, rate), strict=True))
            if config.sdr_songs is not None:
                row[VALID_SDR] = valid_sdr
            if names := self.step.terms:
                means = np.mean(state.pending_terms, axis=0).tolist()
                row["terms"] = dict(zip(names, means, strict=True))
            state.pending.clear()
            state.pending_terms.clear()
            state.history.append(row)
        if self.finished or state.step % config.checkpoint_every_steps == 0:
            self._save(dataset)
        return row

    def _validate(self, dataset: Dataset) -> tuple[float, float | None]:
        """Validation loss and SDR; updates the run's validations, and keeps the best weights."""
        state, config = self.state, self._config
        with self.step.evaluating():
            batches = dataset.validation(
                max_windows=config.validation_windows,
                share=self._cluster.share,
                phases=self.step.loss.needs_phases,
                waveforms=self.step.loss.needs_waveforms,
            )
            loss = self._mean_loss(batches)
            if not np.isfinite(loss):
                raise self._not_finite(f"validation loss is {loss}", dataset, step=state.step - 1)
            sdr = None if config.sdr_songs is None else self._sdr()
            if sdr is not None and not np.isfinite(sdr):
                raise self._not_finite(f"validation SDR is {sdr}", dataset, step=state.step - 1)
            value = sdr if sdr is not None and config.select_by == VALID_SDR else loss
            state.validations = state.validations.after(
                value,
                state.step,
                select_by=config.select_by,
                keep_best=config.keep_best,
                patience=config.optimization.patience,
                min_improvement=config.optimization.min_improvement,
            )
            if state.validations.keeps(state.step) and self._checkpoints:
                self._checkpoints.save_best(state.step, weights_of(self.model))
        return loss, sdr

    def _sdr(self) -> float:
        """The SDR that the chief measures, the same on all workers."""
        assert self._measure_sdr is not None or not self._cluster.is_chief
        measured = self._measure_sdr() if self._measure_sdr else 0.0  # the chief's is what counts
        (sdr,) = self._cluster.from_chief([np.array(measured)])
        return float(sdr)

    def _mean_loss(self, batches: Iterable[Batch]) -> float:
        """Mean of the loss over all workers' batches, weighted by the windows in each."""
        sums = np.zeros(2)
        for batch in batches:
            sums += batch.windows * self.step.validation_loss(batch), batch.windows
        ((total, count),) = self._cluster.sum([sums])
        return float(total / count)

    def _not_finite(self, what: str, dataset: Dataset, *, step: int) -> UserError:
        config = self._config
        kept = self._checkpoints.latest() if self._checkpoints else None
        windows = dataset.describe(step, sampling=config.sampling, seed=config.seed)
        if config.augmentation and config.augmentation.remix:
            windows += " (and, of other stems, windows of other songs)"
        return UserError(
            f"train@{self._name}: {what} after step {step}, whose windows are {windows}: "
            "lower train.learning_rate or set train.clip_norm; "
            + (f"the checkpoint of step {kept.step} is kept" if kept else "no checkpoint yet")
        )

    def _save(self, dataset: Dataset) -> None:
        self.collect(dataset)
        values = {name: np.asarray(variable) for name, variable in self.step.variables().items()}
        for name, value in values.items():
            if not np.isfinite(value).all():
                step = self.state.step - 1
                raise self._not_finite(f"{name} is not finite", dataset, step=step)
        if self._checkpoints:
            self._checkpoints.save(self.state, values)

    def _restore(self) -> None:
        """Loads the chief's newest checkpoint; without one, all start with the chief's weights."""
        cluster, variables = self._cluster, self.step.variables()
        state = self._checkpoints.latest() if self._checkpoints else None
        if self._checkpoints and state:
            values = self._checkpoints.variables(variables)
        else:
            self.step.start()
            values = {name: np.asarray(variable) for name, variable in variables.items()}
        if cluster.workers > 1:
            text = cluster.text_from_chief(state.to_json() if state else "")
            state = State.of_json(text) if text else None
            values = dict(zip(values, cluster.from_chief(list(values.values())), strict=True))
        self.state = state or State()
        for name, variable in variables.items():
            variable.assign(values[name])


class _Pace:
    """Share of the time spent waiting, from the end of the first step on."""

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

    @property
    def is_new(self) -> bool:
        """Whether no step was done yet."""
        return self._started is None

    def step_done(self) -> None:
        """Starts the count after the first step, which starts threads and traces graphs."""
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
    return state.step >= config.steps or (most is not None and state.validations.plateaus >= most)


def best_row(state: State) -> Row:
    """The row of history that the best validation has made."""
    _, step = state.validations.best[0]
    return next(row for row in reversed(state.history) if row["step"] == step)


def history_csv(history: Iterable[Mapping[str, Any]]) -> str:
    """History as CSV text; what validations measure is nan between them: plots leave it out."""
    rows = list(history)
    columns = [*COLUMNS, *([VALID_SDR] if any(VALID_SDR in row for row in rows) else [])]
    lines = [
        ",".join("nan" if row[name] is None else f"{row[name]:.9g}" for name in columns)
        for row in rows
    ]
    return "\n".join(itertools.chain([",".join(columns)], lines)) + "\n"

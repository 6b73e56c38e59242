"""The training loop of one stem's net, safe to stop and go on at any checkpoint."""

import itertools
import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from features.errors import UserError
from features.feature_set import FeatureSet
from train import unet
from train.dataset import Batch, training_batches, validation_batches
from train.losses import l1
from train.sampler import Sampling

ADAM_EPSILON = 1e-8  # TensorFlow 1's default, which Spleeter uses


@dataclass(frozen=True)
class TrainConfig:
    """How a net is trained.

    Attributes:
        sampling: how windows are drawn.
        batch_size: windows a step.
        steps: number of steps.
        learning_rate: of Adam.
        seed: of initial weights, dropout and sampling.
        log_every_steps: a row of history for the mean loss of this many steps.
        validate_every_steps: steps between validations.
        validation_windows: at most this many windows of the valid split.
        checkpoint_every_steps: steps between checkpoints.
    """

    sampling: Sampling
    batch_size: int
    steps: int
    learning_rate: float
    seed: int
    log_every_steps: int
    validate_every_steps: int
    validation_windows: int
    checkpoint_every_steps: int


@dataclass
class State:
    """Where a training run stands; stored in each checkpoint.

    Attributes:
        step: steps done.
        history: rows of step, loss and valid_loss (None between validations).
        pending: losses since the last row.
        best_step: step of the smallest validation loss, 0 before the first.
        best_loss: that loss.
    """

    step: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    pending: list[float] = field(default_factory=list)
    best_step: int = 0
    best_loss: float = float("inf")


class Progress(Protocol):
    """Where the loop reports to."""

    def __call__(self, state: State, loss: float, /) -> None:
        """Called after each step with the state and the step's loss."""


class Trainer:
    """Trains one net.

    Args:
        net: its shape.
        config: how it is trained.
        stem: target.
        work: folder for checkpoints; a run that finds one there goes on from it.
    """

    def __init__(self, net: unet.Net, config: TrainConfig, *, stem: str, work: Path) -> None:
        tf.config.experimental.enable_op_determinism()
        keras.utils.set_random_seed(config.seed)
        self.model = unet.build(net, seed=config.seed)
        self._optimizer = keras.optimizers.Adam(config.learning_rate, epsilon=ADAM_EPSILON)
        self._optimizer.build(self.model.trainable_variables)
        self._net = net
        self._config = config
        self._stem = stem
        self._work = work
        self._train_step = tf.function(self._step)
        self._valid_step = tf.function(self._evaluate, reduce_retracing=True)
        self.state = State()

    def _step(self, mixture: Any, target: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = l1(self.model(mixture, training=True), target)
        variables = self.model.trainable_variables
        self._optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    def _evaluate(self, mixture: Any, target: Any) -> Any:
        return l1(self.model(mixture, training=False), target)

    def fit(self, features: FeatureSet, *, progress: Progress) -> None:
        """Runs all remaining steps, then loads the best weights.

        Args:
            features: opened features; train and valid are read.
            progress: called after each step.

        Raises:
            UserError: the loss is not finite, or no song is as long as a window.
        """
        config = self._config
        self._restore()
        batches = training_batches(
            features,
            stem=self._stem,
            window_frames=self._net.frames,
            batch_size=config.batch_size,
            sampling=config.sampling,
            seed=config.seed,
            start_step=self.state.step,
            steps=config.steps,
        )
        for mixture, target in batches:
            loss = float(self._train_step(mixture, target))
            if not np.isfinite(loss):
                raise UserError(
                    f"train@{self._stem}: loss is {loss} at step {self.state.step}: "
                    "lower train.learning_rate; the last checkpoint is kept"
                )
            self._after_step(loss, features)
            progress(self.state, loss)
        if (self._work / "best.npz").is_file():
            with np.load(self._work / "best.npz") as values:
                unet.set_weights(self.model, dict(values))

    def _after_step(self, loss: float, features: FeatureSet) -> None:
        config, state = self._config, self.state
        state.step += 1
        state.pending.append(loss)
        last = state.step == config.steps
        validates = last or state.step % config.validate_every_steps == 0
        if validates or state.step % config.log_every_steps == 0:
            row = {"step": state.step, "loss": float(np.mean(state.pending)), "valid_loss": None}
            state.pending.clear()
            if validates:
                row["valid_loss"] = self._validate(features)
            state.history.append(row)
        if last or state.step % config.checkpoint_every_steps == 0:
            self._save()

    def _validate(self, features: FeatureSet) -> float:
        batches = validation_batches(
            features,
            stem=self._stem,
            window_frames=self._net.frames,
            batch_size=self._config.batch_size,
            max_windows=self._config.validation_windows,
        )
        loss = mean_loss(batches, self._valid_step)
        if loss < self.state.best_loss:
            self.state.best_loss, self.state.best_step = loss, self.state.step
            self._write_npz("best.npz", unet.weights(self.model))
        return loss

    def _variables(self) -> dict[str, Any]:
        # Everything that the next step depends on: weights, norm statistics, seeds of dropout,
        # Adam's moments. By position, since Keras numbers some names per process.
        variables = [*self.model.variables, *self._optimizer.variables]
        return {f"{number:04d}": variable for number, variable in enumerate(variables)}

    def _write_npz(self, name: str, values: Mapping[str, NDArray[Any]]) -> None:
        temporary = self._work / f".{name}.tmp"
        with temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **values)
        temporary.rename(self._work / name)

    def _save(self) -> None:
        """Writes a checkpoint beside the last one and swaps them by rename."""
        fresh = self._work / ".checkpoint.tmp"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        values = {name: np.asarray(variable) for name, variable in self._variables().items()}
        np.savez(fresh / "variables.npz", allow_pickle=False, **values)
        (fresh / "state.json").write_text(json.dumps(vars(self.state)), encoding="utf-8")
        done = self._work / f"checkpoint-{self.state.step:09d}"
        shutil.rmtree(done, ignore_errors=True)
        fresh.rename(done)
        for old in sorted(self._work.glob("checkpoint-*"))[:-1]:
            shutil.rmtree(old)

    def _restore(self) -> None:
        """Loads the newest checkpoint, if there is one."""
        found = sorted(self._work.glob("checkpoint-*"))
        if not found:
            return
        state = json.loads((found[-1] / "state.json").read_text(encoding="utf-8"))
        self.state = State(**state)
        with np.load(found[-1] / "variables.npz") as values:
            for name, variable in self._variables().items():
                variable.assign(values[name])


def mean_loss(batches: Iterable[Batch], loss: Callable[..., Any]) -> float:
    """Mean of a loss over batches, weighted by the windows in each."""
    total, count = 0.0, 0
    for mixture, target in batches:
        total += float(loss(mixture, target)) * len(mixture)
        count += len(mixture)
    return total / count


def history_csv(history: Iterable[Mapping[str, Any]]) -> str:
    """History as CSV text with the columns step, loss and valid_loss."""
    lines = [
        f"{row['step']},{row['loss']:.6g},"
        + ("" if row["valid_loss"] is None else f"{row['valid_loss']:.6g}")
        for row in history
    ]
    return "\n".join(itertools.chain(["step,loss,valid_loss"], lines)) + "\n"

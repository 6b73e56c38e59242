"""What shows a training run while it runs: TensorBoard and dvclive, in runs/<model>/.

It holds wall-clock times, changes no result, and no stage depends on it.
"""

import operator
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import tensorflow as tf
from dvclive.live import Live

from stemforge.errors import UserError
from stemforge.eval.exports.files import write_saved_model
from stemforge.pipelines.params import Monitor
from stemforge.pipelines.running import pictures
from stemforge.quiet import quiet_stderr
from stemforge.train.batch import Batch
from stemforge.train.dataset import Dataset
from stemforge.train.model import Model
from stemforge.train.trainer import VALID_SDR, Report, Row, Trainer
from stemforge.unfinished import finishing

PICTURE_ROWS = 256
WAVEFORM_ROWS = 101


class RunMonitor:
    """Writes what `config` asks for; use it as a context.

    Args:
        trainer: whose run it is; its history so far is written first.
        dataset: whose first validation windows are shown.
        config: what is written.
        folder: where; created if needed.
    """

    def __init__(self, trainer: Trainer, dataset: Dataset, config: Monitor, folder: Path) -> None:
        self._trainer = trainer
        self._dataset = dataset
        self._config = config
        self._folder = folder
        self._closing = ExitStack()
        self._live: Live | None = None
        self._writer: Any = None

    def __enter__(self) -> "RunMonitor":
        if self._config.tensorboard:
            self._writer = tf.summary.create_file_writer(str(self._folder))
            self._closing.callback(self._writer.close)
        if self._config.dvclive:
            _refuse_empty_repository()
            # From scratch each time: a killed run's files may hold rows that are repeated.
            place = str(self._folder / "dvclive")
            self._live = Live(place, save_dvc_exp=False, dvcyaml=False)
            self._closing.callback(self._live.end)
            for row in self._trainer.state.history:
                self._log_live(row)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.close()

    def report(self, report: Report) -> None:
        """Called after each step; writes when it ends a row of history."""
        row = report.row
        if row is None:
            return
        if self._live is not None:
            self._log_live(row)
        if self._writer is None:
            return
        with self._writer.as_default(step=report.state.step):
            tf.summary.scalar("loss/train", row["loss"])
            for name, value in row.get("terms", {}).items():
                tf.summary.scalar(f"loss/{name}", value)
            tf.summary.scalar("learning_rate", row["learning_rate"])
            tf.summary.scalar("norm/gradients", report.gradient_norm)
            weights = self._trainer.model.trainable_weights
            tf.summary.scalar("norm/weights", tf.linalg.global_norm(weights))
            tf.summary.scalar("waiting", report.waiting)
            if row["valid_loss"] is not None:
                tf.summary.scalar("loss/validation", row["valid_loss"])
                if VALID_SDR in row:
                    tf.summary.scalar("sdr/validation", row[VALID_SDR])
                self._write_validation()
        self._writer.flush()

    def export(self, model: Model) -> None:
        """Writes the current weights as saved_model-<step>/."""
        out = self._folder / f"saved_model-{self._trainer.state.step:09d}"
        shutil.rmtree(out, ignore_errors=True)  # a killed run may have written it
        with self._trainer.step.evaluating(), finishing(out) as fresh:
            write_saved_model([model], fresh)

    def _log_live(self, row: Row) -> None:
        assert self._live is not None
        self._live.step = row["step"]
        # Dvclive takes "loss/l1" for a part of "loss", which is a number.
        terms = {f"loss_{name}": value for name, value in row.get("terms", {}).items()}
        for name, value in {**row, **terms}.items():
            if name not in ("step", "terms") and value is not None:
                self._live.log_metric(name, value)
        self._live.make_summary()  # type: ignore[no-untyped-call]

    def _write_validation(self) -> None:
        config = self._config
        with self._trainer.step.evaluating():
            if config.histograms:
                self._write_histograms()
            if config.images or config.audio:
                for number, window in enumerate(self._windows()):
                    estimates = self._trainer.model(window.mixture, training=False)
                    for stem in window.stems:
                        self._write_window(number, stem, window, estimates)

    def _write_histograms(self) -> None:
        for weight in self._trainer.model.trainable_weights:
            tf.summary.histogram(f"weight/{weight.path}", weight)
        step = self._trainer.step
        batch = next(
            self._dataset.validation(
                max_windows=self._dataset.batch_size,
                phases=step.loss.needs_phases,
                waveforms=step.loss.needs_waveforms,
            )
        )
        for path, gradient in step.gradients(batch).items():
            tf.summary.histogram(f"gradient/{path}", gradient)

    def _windows(self) -> Iterator[Batch]:
        """The shown windows, each a batch of one."""
        for batch in self._dataset.validation(
            max_windows=self._config.windows, phases=self._config.audio
        ):
            for number in range(batch.windows):
                part = slice(number, number + 1)
                yield tf.nest.map_structure(operator.itemgetter(part), batch)

    def _write_window(
        self, number: int, stem: str, window: Batch, estimates: Mapping[str, Any]
    ) -> None:
        mixture, target, estimate = (
            np.asarray(part[0]) for part in (window.mixture, window.stems[stem], estimates[stem])
        )
        residual = mixture - estimate
        if self._config.images:
            shown = [
                pictures.spectrogram(part, reference=float(mixture.max()), rows=self._rows)
                for part in (mixture, target, estimate, residual)
            ]
            tf.summary.image(
                f"{stem}/window {number}", pictures.stack(shown)[None],
                description="from the top: mixture, truth, estimate, residual",
            )  # fmt: skip
        if window.phases is not None:
            phase = np.asarray(window.phases[0])
            rate_hz = self._dataset.features.info["sample_rate_hz"]
            framing = self._dataset.features.framing
            for name, part in (("estimate", estimate), ("residual", residual)):
                sound = pictures.audible(part, phase, framing=framing)
                tag = f"{stem}/window {number} {name}"
                with quiet_stderr():  # oneDNN says that it does not do strings
                    tf.summary.audio(tag, np.clip(sound, -1.0, 1.0)[None], rate_hz)
                wave = pictures.waveform(sound, rows=WAVEFORM_ROWS, columns=len(mixture))
                tf.summary.image(f"{tag} waveform", wave[None])

    @property
    def _rows(self) -> int:
        return min(self._dataset.features.bins, PICTURE_ROWS)


def _refuse_empty_repository() -> None:
    """Dvclive asks a git repository for its last commit.

    Raises:
        UserError: there is a repository without one.
    """
    inside = ("git", "rev-parse", "--is-inside-work-tree")
    commit = ("git", "rev-parse", "--verify", "HEAD")
    if shutil.which("git") is None or _fails(inside) or not _fails(commit):
        return
    raise UserError(
        "monitor.dvclive: the git repository has no commit: commit something, or set "
        "monitor.dvclive=false"
    )


def _fails(command: Sequence[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode != 0

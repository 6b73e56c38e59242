"""Checkpoints of a training run: complete or absent, even if the process is killed."""

import json
import os
import shutil
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemforge.errors import UserError
from stemforge.train.validation import Validations
from stemforge.unfinished import finishing, remove_leftovers

Values = Mapping[str, NDArray[Any]]


@dataclass
class State:
    """The state of a training run; stored in each checkpoint.

    Attributes:
        step: steps done.
        history: rows of step, loss, valid_loss (None between validations), learning_rate; where it
            is measured, valid_sdr (likewise); and where losses are summed, terms: the mean of each
            by name.
        pending: losses since the last row.
        pending_terms: the losses that each of them sums, in their order; empty for one alone.
        validations: the best ones, and plateaus.
    """

    step: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    pending: list[float] = field(default_factory=list)
    pending_terms: list[list[float]] = field(default_factory=list)
    validations: Validations = field(default_factory=Validations)

    def to_json(self) -> str:
        """The state as JSON text."""
        return json.dumps(asdict(self))

    @classmethod
    def of_json(cls, text: str) -> "State":
        """Reads the text that `to_json` returned."""
        data = json.loads(text)
        told = data.pop("validations")
        best = tuple((value, step) for value, step in told.pop("best"))
        return cls(**data, validations=Validations(best, **told))


class Checkpoints:
    """The checkpoints of one run in one folder.

    checkpoint-<step>/ holds variables.npz and state.json, best-<step>.npz a net's weights.
    Each gets its name when it is complete and on the disk.

    Args:
        folder: an existing folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, state: State, variables: Values) -> None:
        """Writes a checkpoint, then removes older ones and weights that are no longer best.

        Raises:
            UserError: it cannot be written; the last checkpoint is kept.
        """
        done = self._folder / f"checkpoint-{state.step:09d}"
        if done.exists():
            return
        remove_leftovers(self._folder)
        try:
            with finishing(done) as fresh:
                fresh.mkdir()
                _write_npz(fresh / "variables.npz", variables)
                (fresh / "state.json").write_text(state.to_json(), encoding="utf-8")
        except OSError as error:
            raise self._unwritten(error) from None
        for old in sorted(self._folder.glob("checkpoint-*"))[:-1]:
            shutil.rmtree(old)
        best = {_best_name(step) for _, step in state.validations.best}
        for path in self._folder.glob("best-*.npz"):
            if path.name not in best:
                path.unlink()

    def save_best(self, step: int, weights: Values) -> None:
        """Writes the weights of a validation that is among the best.

        Raises:
            UserError: they cannot be written; the last checkpoint is kept.
        """
        try:
            with finishing(self._folder / _best_name(step)) as fresh:
                _write_npz(fresh, weights)
        except OSError as error:
            raise self._unwritten(error) from None

    def latest(self) -> State | None:
        """State of the newest checkpoint, None where there is none."""
        folder = self._newest()
        if folder is None:
            return None
        return State.of_json((folder / "state.json").read_text(encoding="utf-8"))

    def variables(self, names: Collection[str]) -> dict[str, NDArray[Any]]:
        """Variables of the newest checkpoint.

        Raises:
            UserError: they do not fit this net and optimizer.
        """
        folder = self._newest()
        assert folder is not None
        with np.load(folder / "variables.npz") as stored:
            odd = sorted(set(names) ^ set(stored.files))
            if odd:
                raise UserError(
                    f"{folder}: the checkpoint is of another net (only one of the two has "
                    f"{odd[0]}): remove {self._folder} to start again"
                )
            return {name: stored[name] for name in names}

    def best_weights(self, step: int) -> dict[str, NDArray[Any]]:
        """Weights of one of the best validations."""
        with np.load(self._folder / _best_name(step)) as stored:
            return dict(stored)

    def clear(self) -> None:
        """Removes all checkpoints."""
        for path in self._folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def _newest(self) -> Path | None:
        return max(self._folder.glob("checkpoint-*"), default=None)

    def _unwritten(self, error: OSError) -> UserError:
        kept = self._newest()
        return UserError(
            f"{self._folder}: the checkpoint cannot be written: {error.strerror or error}; "
            + (f"{kept.name} is kept" if kept else "there is no earlier one")
        )


def _best_name(step: int) -> str:
    return f"best-{step:09d}.npz"


def _write_npz(path: Path, values: Values) -> None:
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **values)
        file.flush()
        os.fsync(file.fileno())

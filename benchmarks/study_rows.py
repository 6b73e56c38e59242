"""The rows of the study, from benchmarks/study.yaml."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from benchmarks import common

ROWS = common.ROOT / "benchmarks" / "study.yaml"
CURVE = ["step", "loss", "valid_loss", "valid_sdr"]  # of history.csv, in a result's curve


@dataclass(frozen=True)
class Run:
    """One training run of the study.

    Attributes:
        row: its row of the table.
        group: of rows, a heading of the table.
        stem: that the net is trained for.
        seed: of the run.
        train: changes of params.yaml's train section.
        copies: of each training song in another pitch and tempo.
        baselines: rows that it is compared with, one a column of the table; None: with none.
        changes_row: the row that it changes, if that is none of the baselines.
    """

    row: str
    group: str
    stem: str
    seed: int
    train: Mapping[str, Any]
    copies: int
    baselines: tuple[str | None, ...]
    changes_row: str | None

    @property
    def name(self) -> str:
        """Of its folder, and in the results."""
        return f"{self.row}, {self.stem}, seed {self.seed}"

    def changes(self) -> dict[str, Any]:
        """All changes of params.yaml."""
        quiet = {"tensorboard": False, "images": False, "dvclive": False}
        train = {**self.train, "seed": self.seed}
        copies = {"per_song": self.copies}
        return {"models": [self.stem], "copies": copies, "train": train, "monitor": quiet}


def read_runs(path: Path = ROWS) -> list[Run]:
    """The runs of the study, in the order of its table."""
    study = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    found = []
    for row in study["rows"]:
        train = copy.deepcopy(study["base"])
        common.merge(train, row.get("train", {}))
        found += [
            Run(
                row["row"], row["group"], stem, seed, train, row.get("copies", 0),
                tuple(row.get("baselines", study["baselines"])), row.get("changes"),
            )
            for stem in row.get("stems", study["stems"])
            for seed in row.get("seeds", study["seeds"])
        ]  # fmt: skip
    return found

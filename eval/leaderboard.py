"""The leaderboard: methods against targets, medians of medians."""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from eval.scores import METRICS

AGGREGATION = "median over 1 s frames, then over tracks; NaN frames are skipped"


def track_medians(scores: pd.DataFrame) -> pd.DataFrame:
    """Median over frames per method, track and target; all-NaN targets stay NaN."""
    keys = ["method", "track", "target"]
    return scores.groupby(keys, sort=True)[list(METRICS)].median().reset_index()


def aggregate(scores: pd.DataFrame) -> pd.DataFrame:
    """Median over tracks of the medians over frames, in dB, with the tracks counted.

    Args:
        scores: the table scores.parquet.

    Returns:
        Columns method, target, SDR, SIR, ISR, SAR, tracks (those with a finite SDR) and
        silent_tracks (those left out).
    """
    medians = track_medians(scores)
    groups = medians.groupby(["method", "target"], sort=True)
    table = groups[list(METRICS)].median()
    table["tracks"] = groups["SDR"].count()
    table["silent_tracks"] = groups["SDR"].size() - table["tracks"]
    return table.reset_index()


def order_methods(table: pd.DataFrame, targets: Sequence[str]) -> list[str]:
    """Methods by mean SDR over the targets, best first."""
    wide = table.pivot(index="method", columns="target", values="SDR")[list(targets)]
    return [str(name) for name in wide.mean(axis=1).sort_values(ascending=False).index]


def to_markdown(
    table: pd.DataFrame, targets: Sequence[str], *, title: str, remarks: Sequence[str]
) -> str:
    """The leaderboard as a Markdown page: SDR first, then all metrics.

    Args:
        table: result of `aggregate`.
        targets: columns, in this order.
        title: heading.
        remarks: sentences under the heading.

    Returns:
        The page's text.
    """
    methods = order_methods(table, targets)
    cells = table.set_index(["method", "target"])
    counts = [_counted(table, target) for target in targets]
    lines = [f"# {title}", "", *remarks, ""]
    lines += _row(["SDR, dB", *counts], rule=True)
    for method in methods:
        lines += _row([method, *(_db(cells.loc[(method, target), "SDR"]) for target in targets)])
    lines += ["", *_row(["method", "target", *(f"{metric}, dB" for metric in METRICS)], rule=True)]
    for method in methods:
        for target in targets:
            values = [_db(cells.loc[(method, target), metric]) for metric in METRICS]
            lines += _row([method, target, *values])
    return "\n".join(lines) + "\n"


def _counted(table: pd.DataFrame, target: str) -> str:
    rows = table[table["target"] == target]
    tracks, silent = int(rows["tracks"].min()), int(rows["silent_tracks"].max())
    counted = f"{tracks} track{'s' * (tracks != 1)}"
    return f"{target} ({counted}{f', {silent} silent' if silent else ''})"


def _row(cells: Sequence[str], *, rule: bool = False) -> list[str]:
    line = f"| {' | '.join(cells)} |"
    return [line, "|" + " --- |" * len(cells)] if rule else [line]


def _db(value: Any) -> str:
    return "-" if math.isnan(float(value)) else f"{float(value):.2f}"


def metrics(table: pd.DataFrame, method: str) -> dict[str, dict[str, float | None]]:
    """One method's figures in dB by target and metric, as `dvc metrics show` prints them."""
    nested: dict[str, dict[str, float | None]] = {}
    for row in table[table["method"] == method].to_dict("records"):
        nested[str(row["target"])] = {
            metric: None if math.isnan(row[metric]) else round(row[metric], 4) for metric in METRICS
        }
    return nested

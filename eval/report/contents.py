"""What the report shows, from the leaderboard's files: plain numbers, ready for JSON."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from stemforge.eval.leaderboard.about import About
from stemforge.eval.leaderboard.tables import (
    Aggregation,
    confidence_interval,
    is_reference,
    is_rest,
    order_methods,
)
from stemforge.eval.scoring.scores import METRICS, TRACK_METRICS

DECIMALS = 2  # of dB, as the leaderboard prints them
ROW = (*METRICS, *TRACK_METRICS, "SDR_low", "SDR_high", "p_value")


def board_data(table: pd.DataFrame, tracks: pd.DataFrame, about: About) -> dict[str, Any]:
    """The leaderboard, and the scores of all songs.

    Args:
        table: leaderboard.parquet.
        tracks: tracks.csv.
        about: leaderboard.json.

    Returns:
        `targets`, of them `stems` (without the rests of others), `metrics`, `songs` (names,
        sorted), `statement`, `notes` and `baseline`;
        `methods`, best first, each with its name, whether it is a reference (an oracle or the
        mixture), its test set, and `rows`: by target the leaderboard's figures, of
        which p_value has four decimals; `scores`: by method, target and metric a value a song,
        None where there is none; `differences`: by method and target the mean difference of its
        SDR to the baseline's over the songs that both have, and its interval, in dB.
    """
    songs = sorted(map(str, tracks["track"].unique()))
    order = order_methods(table, about.targets)
    return {
        "title": about.title,
        "introduction": about.introduction,
        "statement": about.statement,
        "notes": about.notes,
        "apart": about.apart,
        "baseline": about.aggregation.baseline,
        "targets": list(about.targets),
        "stems": [target for target in about.targets if not is_rest(target, about.targets)],
        "metrics": [*METRICS, *TRACK_METRICS],
        "songs": songs,
        "methods": [_method(name, table) for name in order],
        "scores": _scores(tracks, songs),
        "differences": _differences(tracks, about.aggregation),
    }


def _method(name: str, table: pd.DataFrame) -> dict[str, Any]:
    mine = table[table["method"] == name]
    rows = {}
    for row in mine.to_dict("records"):
        figures = {key: _number(row[key], 4 if key == "p_value" else DECIMALS) for key in ROW}
        rows[str(row["target"])] = figures
    first = mine.iloc[0]
    return {
        "name": name,
        "reference": is_reference(name),
        "test_set": str(first["test_set"]),
        "rows": rows,
    }


def _scores(tracks: pd.DataFrame, songs: Sequence[str]) -> dict[str, dict[str, dict[str, Any]]]:
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for (method, target), group in tracks.groupby(["method", "target"], sort=True):
        rows = group.set_index("track").reindex([*songs])
        values = {
            metric: numbers(rows[metric])
            for metric in (*METRICS, *TRACK_METRICS)
            if metric in rows and rows[metric].notna().any()
        }
        found.setdefault(str(method), {})[str(target)] = values
    return found


def _differences(
    tracks: pd.DataFrame, aggregation: Aggregation
) -> dict[str, dict[str, list[float | None]]]:
    wide = tracks.pivot(index="track", columns=["method", "target"], values="SDR")
    found: dict[str, dict[str, list[float | None]]] = {}
    mean = replace(aggregation, tracks="mean")
    for column in wide.columns:
        method, target = map(str, column)
        if method == aggregation.baseline or (aggregation.baseline, target) not in wide.columns:
            continue
        values = (wide[(method, target)] - wide[(aggregation.baseline, target)]).dropna()
        if len(values):
            interval = confidence_interval(values.to_numpy(np.float64), mean)
            found.setdefault(method, {})[target] = numbers([values.mean(), *interval])
    return found


def song_frames(
    frames: pd.DataFrame, song: str, methods: Iterable[str]
) -> dict[str, dict[str, list[float | None]]]:
    """A song's SDR in dB, a value a frame, by method and target.

    Args:
        frames: scores.parquet.
        song: its name.
        methods: the wanted ones.
    """
    mine = frames[(frames["track"] == song) & (frames["target"] != "")]
    found: dict[str, dict[str, list[float | None]]] = {}
    wanted = [*methods]
    for (method, target), group in mine.groupby(["method", "target"], sort=True):
        values = group.sort_values("frame")["SDR"]
        if method in wanted and values.notna().any():
            found.setdefault(str(method), {})[str(target)] = numbers(values)
    return found


def curves(history: pd.DataFrame) -> dict[str, list[list[float | None]]]:
    """Losses by step, as pairs; validation losses of the steps that have one.

    Args:
        history: history.csv of a model directory.
    """
    found: dict[str, list[list[float | None]]] = {}
    for name in ("loss", "valid_loss"):
        rows = history[["step", name]].dropna()
        found[name] = [[int(step), _number(value, 5)] for step, value in rows.to_numpy()]
    return found


def mean_over_targets(frames: Mapping[str, Sequence[float | None]]) -> list[float]:
    """Means over the targets that have a score, a value a frame; NaN where none has."""
    table = pd.DataFrame(
        {target: pd.Series(values) for target, values in frames.items()}, dtype=float
    )
    return [float(value) for value in table.mean(axis=1)]


def numbers(values: Iterable[Any]) -> list[float | None]:
    """In dB, for JSON."""
    return [_number(value, DECIMALS) for value in values]


def _number(value: Any, decimals: int) -> float | None:
    number = float(value)
    return round(number, decimals) + 0.0 if math.isfinite(number) else None  # no -0.0

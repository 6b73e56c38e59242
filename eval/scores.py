"""BSSEval v4 scores of a track, museval's JSON of them, and the table that holds them."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from eval.bss_eval import bss_eval
from features.ffmpeg import find_ffmpeg
from features.stft import Waveform

METRICS = ("SDR", "SIR", "ISR", "SAR")
COLUMNS = ("method", "track", "target", "frame", *METRICS, "note")


def _museval() -> Any:
    # museval imports musdb, and that refuses to load where ffmpeg is not on PATH.
    find_ffmpeg()
    import museval

    return museval


def score_track(
    references: Mapping[str, Waveform],
    estimates: Mapping[str, Waveform],
    *,
    sample_rate_hz: int,
    window_s: float,
    hop_s: float,
    workers: int | None = None,
) -> tuple[dict[str, dict[str, list[float]]], dict[str, str]]:
    """Scores all targets of a track together, as museval does (see eval.bss_eval).

    A target whose reference or estimate is silent throughout gets a note instead of scores;
    museval would refuse the track as a whole.

    Args:
        references: true stems, float32 [samples, channels].
        estimates: the same stems, the same shape.
        sample_rate_hz: of both.
        window_s: length of a scored frame.
        hop_s: distance of scored frames.
        workers: threads to use; None: as many as there are cores.

    Returns:
        Scores in dB per target and metric, a value a frame (NaN where any target is silent
        in the frame), and notes per target that has none.
    """
    notes = {}
    for target in references:
        if not np.any(references[target]):
            notes[target] = "silent reference"
        elif not np.any(estimates[target]):
            notes[target] = "silent estimate"
    found = bss_eval(
        np.stack(list(references.values())),
        np.stack([estimates[target] for target in references]),
        window=round(window_s * sample_rate_hz),
        hop=round(hop_s * sample_rate_hz),
        workers=workers,
    )
    by_metric = {"SDR": found.sdr, "SIR": found.sir, "ISR": found.isr, "SAR": found.sar}
    values = {
        target: {metric: by_metric[metric][row].tolist() for metric in METRICS}
        for row, target in enumerate(references)
        if target not in notes
    }
    return values, notes


def museval_json(
    track: str, values: Mapping[str, Mapping[str, list[float]]], *, window_s: float, hop_s: float
) -> str:
    """The track's scores in museval's own JSON, which its EvalStore loads."""
    store = _museval().TrackStore(track, win=window_s, hop=hop_s)
    for target, metrics in values.items():
        store.add_target(target, metrics)
    return str(store.json)


def score_rows(
    method: str, track: str, text: str, notes: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Rows of scores.parquet from a track's museval JSON; a noted target is a row of NaN."""
    rows: list[dict[str, Any]] = []
    for target in json.loads(text)["targets"]:
        for frame, values in enumerate(target["frames"]):
            metrics = {metric: float(values["metrics"][metric]) for metric in METRICS}
            rows.append(
                {"method": method, "track": track, "target": target["name"], "frame": frame}
                | metrics
                | {"note": ""}
            )
    for target, note in notes.items():
        empty = dict.fromkeys(METRICS, float("nan"))
        rows.append(
            {"method": method, "track": track, "target": target, "frame": 0}
            | empty
            | {"note": note}
        )
    return rows


def write_scores(path: Path, rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Writes scores.parquet, sorted; returns the table."""
    table = pd.DataFrame(list(rows), columns=list(COLUMNS))
    table = table.sort_values(["method", "track", "target", "frame"], ignore_index=True)
    table.to_parquet(path, index=False)
    return table

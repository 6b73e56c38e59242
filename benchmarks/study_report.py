"""The table and the plots of the study, from its results."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stemforge.eval.leaderboard.tables import Aggregation, confidence_interval
from stemforge.unfinished import finishing

BASELINE = "Spleeter's preset"
BEGIN, END = "<!-- The table of benchmarks.study begins. -->", "<!-- It ends. -->"
HOW = Aggregation("median", "mean", BASELINE, confidence=0.95, resamples=9999, seed=1)
Results = Mapping[str, Mapping[str, Any]]


class Named(Protocol):
    """What the report needs to know of a run."""

    row: str
    group: str
    stem: str
    seed: int

    @property
    def name(self) -> str:
        """Its key in the results."""
        ...


def sdr_of(result: Mapping[str, Any], which: int = 0) -> float:
    """Median over songs, in dB, of the stem's (0) or the rest's (1) SDR."""
    values = [scores[which] for scores in result["songs"].values() if scores[which] is not None]
    return float(np.median(values))


def difference(result: Mapping[str, Any], baseline: Mapping[str, Any]) -> NDArray[np.float64]:
    """SDR of the stem minus the baseline's, in dB, song by song."""
    ours, theirs = result["songs"], baseline["songs"]
    shared = [song for song in sorted(ours) if None not in (ours[song][0], theirs[song][0])]
    return np.array([ours[song][0] - theirs[song][0] for song in shared], np.float64)


def write(folder: Path, runs: Sequence[Named], results: Results) -> list[str]:
    """Writes the table into the page study.md, and plots into study/.

    Args:
        folder: of the page; its text around the table stays.
        runs: of the study, in order; those without a result are left out.
        results: by the runs' names.

    Returns:
        The table's lines.
    """
    done = [run for run in runs if run.name in results]
    stems = list(dict.fromkeys(run.stem for run in done))
    lines = table(done, stems, results)
    page = folder / "study.md"
    text = page.read_text(encoding="utf-8") if page.exists() else f"{BEGIN}\n{END}\n"
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    with finishing(page) as fresh:
        body = "\n".join([BEGIN, "", *lines, "", END])
        fresh.write_text(before + body + after, encoding="utf-8")
    for stem in stems:
        own = [run for run in done if run.stem == stem]
        plot_curves(folder / "study" / f"curves-{stem}.png", own, results)
    return lines


def table(runs: Sequence[Named], stems: Sequence[str], results: Results) -> list[str]:
    """Markdown: a row of the study in a row, its seeds' means."""
    heads = [f"{stem}, dB | against {BASELINE}, dB" for stem in stems]
    lines = [f"| | {' | '.join(heads)} |", "| --- |" + " --- |" * 2 * len(stems)]
    group = ""
    for row in dict.fromkeys(run.row for run in runs):
        found = [run for run in runs if run.row == row]
        if found[0].group != group:
            group = found[0].group
            lines.append(f"| **{group}** |" + " |" * 2 * len(stems))
        cells = [cell for stem in stems for cell in _cells(found, stem, runs, results)]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return lines


def _cells(found: Sequence[Named], stem: str, runs: Sequence[Named], results: Results) -> list[str]:
    ours = [results[run.name] for run in found if run.stem == stem]
    if not ours:
        return ["", ""]
    sdr = f"{np.mean([sdr_of(result) for result in ours]):.2f}"
    sdr += f" ({len(ours)} seeds)" if len(ours) > 1 else ""
    theirs = [results[run.name] for run in runs if (run.row, run.stem) == (BASELINE, stem)]
    if not theirs or found[0].row == BASELINE:
        return [sdr, ""]
    values = np.mean([difference(result, theirs[0]) for result in ours], axis=0)
    low, high = confidence_interval(values, HOW)
    return [sdr, f"{np.mean(values):+.2f} ({low:+.2f} to {high:+.2f})"]


def plot_curves(path: Path, runs: Sequence[Named], results: Results) -> None:
    """Validation loss against the step, a line for each run."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="validation loss (each row's own)")
    for run in runs:
        points = [
            (step, loss) for step, _, loss in results[run.name]["curve"] if not math.isnan(loss)
        ]
        axes.plot(*zip(*points, strict=True), label=run.row)
    axes.legend(fontsize="x-small", ncols=2)
    axes.set_title(runs[0].stem)
    with finishing(path) as fresh:
        figure.savefig(fresh, format="png", metadata={"Software": None})

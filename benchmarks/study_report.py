"""The table and the plots of the study, from its results."""

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

    @property
    def row(self) -> str:
        """Its row of the table."""
        ...

    @property
    def group(self) -> str:
        """A heading of the table."""
        ...

    @property
    def stem(self) -> str:
        """What its net estimates."""
        ...

    @property
    def seed(self) -> int:
        """Of the run."""
        ...

    @property
    def name(self) -> str:
        """Its key in the results."""
        ...


def sdr_of(result: Mapping[str, Any], which: int = 0) -> float:
    """Median over songs, in dB, of the stem's (0) or the rest's (1) SDR."""
    values = [scores[which] for scores in result["songs"].values() if scores[which] is not None]
    return float(np.median(values))


def differences(
    ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]]
) -> NDArray[np.float64]:
    """SDR of the stem minus the baseline's in dB, means over seeds, of songs that all have."""
    found = [[result["songs"][song][0] for result in (*ours, *theirs)] for song in ours[0]["songs"]]
    scored = np.array([values for values in found if None not in values], np.float64)
    mean_ours, mean_theirs = (np.mean(part, axis=1) for part in np.split(scored, [len(ours)], 1))
    difference: NDArray[np.float64] = mean_ours - mean_theirs
    return difference


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
    values = differences(ours, theirs)
    low, high = confidence_interval(values, HOW)
    return [sdr, f"{np.mean(values):+.2f} ({low:+.2f} to {high:+.2f})"]


def plot_curves(path: Path, runs: Sequence[Named], results: Results) -> None:
    """Validation loss against the step, a line for each run."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="validation loss (each row's own)")
    for run in runs:
        curve = results[run.name]["curve"]
        points = [(step, loss) for step, _, loss in curve if loss is not None]
        axes.plot(*zip(*points, strict=True), label=f"{run.row}, seed {run.seed}")
    axes.legend(fontsize="x-small", ncols=2)
    axes.set_title(runs[0].stem)
    with finishing(path) as fresh:
        figure.savefig(fresh, format="png", metadata={"Software": None})

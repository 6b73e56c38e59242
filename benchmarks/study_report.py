"""The table and the plots of the study, from its results."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.study_rows import CURVE, Run
from stemforge.eval.leaderboard.tables import Aggregation, confidence_interval
from stemforge.unfinished import finishing

BEGIN, END = "<!-- The table of benchmarks.study begins. -->", "<!-- It ends. -->"
HOW = Aggregation("median", "mean", "", confidence=0.95, resamples=9999, seed=1)
STEP, VALID_SDR = CURVE.index("step"), CURVE.index("valid_sdr")
PANELS = 3  # side by side
COLOURS = 10  # of matplotlib, before they come again
DASHES = ("--", ":", "-.")  # of the baselines
Results = Mapping[str, Mapping[str, Any]]


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


def write(folder: Path, runs: Sequence[Run], results: Results) -> list[str]:
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
        plot_costs(folder / "study" / f"costs-{stem}.png", own, results)
    return lines


def table(runs: Sequence[Run], stems: Sequence[str], results: Results) -> list[str]:
    """Markdown: a row of the study in a row, its seeds' means, and the differences of each stem."""
    baselines = [f"above {name}" for name in runs[0].baselines] if runs else []
    own = {stem: any(run.changes_row and run.stem == stem for run in runs) for stem in stems}
    heads = [h for s in stems for h in (s, *baselines, *(["above the row it changes"] * own[s]))]
    lines = [f"| dB | {' | '.join(heads)} |", "| --- |" + " --- |" * len(heads)]
    group = ""
    for row in dict.fromkeys(run.row for run in runs):
        found = [run for run in runs if run.row == row]
        if found[0].group != group:
            group = found[0].group
            lines.append(f"| **{group}** |" + " |" * len(heads))
        cells = []
        for stem in stems:
            ours = [results[run.name] for run in found if run.stem == stem]
            others = {
                name: [results[run.name] for run in runs if (run.row, run.stem) == (name, stem)]
                for name in (*found[0].baselines, found[0].changes_row)
                if name != row
            }
            cells.append(_scores(ours))
            cells += [_above(ours, others.get(name, [])) for name in found[0].baselines]
            if own[stem]:
                above = _above(ours, others.get(found[0].changes_row, []))
                cells.append(f"{found[0].changes_row}: {above}" if above else "")
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return lines


def _scores(ours: Sequence[Mapping[str, Any]]) -> str:
    if not ours:
        return ""
    sdr = f"{np.mean([sdr_of(result) for result in ours]):.2f}"
    return f"{sdr} ({len(ours)} seeds)" if len(ours) > 1 else sdr


def _above(ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]]) -> str:
    """Mean difference and its interval; empty where there is nothing to compare."""
    if not ours or not theirs:
        return ""
    values = differences(ours, theirs)
    low, high = confidence_interval(values, HOW)
    return f"{np.mean(values):+.2f} ({low:+.2f} to {high:+.2f})"


def plot_curves(path: Path, runs: Sequence[Run], results: Results) -> None:
    """SDR of validation songs against the step; a panel a group, its baselines in grey."""
    from matplotlib.figure import Figure

    groups = list(dict.fromkeys(run.group for run in runs))
    rows = -(-len(groups) // PANELS)
    figure = Figure(figsize=(4 * min(PANELS, len(groups)), 3.6 * rows), layout="constrained")
    panels = figure.subplots(rows, min(PANELS, len(groups)), squeeze=False, sharey=True)
    for panel in panels.flat[len(groups) :]:
        panel.remove()
    for panel, group in zip(panels.flat, groups, strict=False):
        own = [run for run in runs if run.group == group]
        baselines = [row for row in own[0].baselines if row is not None]
        for run in runs:
            grey = run.row in baselines
            if run not in own and not grey:
                continue
            curve = results[run.name]["curve"]
            points = [(row[STEP], row[VALID_SDR]) for row in curve if row[VALID_SDR] is not None]
            if not points:  # no SDR was measured
                continue
            label = run.row if run.seed == 1 else f"{run.row}, seed {run.seed}"
            look: dict[str, Any] = {}
            if grey:
                dashes = DASHES[baselines.index(run.row) % len(DASHES)]
                look = {"color": "0.6", "zorder": 1, "linestyle": dashes}
            elif own.index(run) >= COLOURS:
                look = {"linestyle": "-."}
            shown = label if run in own else None
            panel.plot(*zip(*points, strict=True), label=shown, **look)
        panel.set_title(group, fontsize="medium")
        panel.set_xlabel("step")
        panel.grid(color="0.9")
        if panel.get_legend_handles_labels()[0]:
            under = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.2), "ncols": 2}
            panel.legend(fontsize="x-small", frameon=False, **under)
    for panel in panels[:, 0]:
        panel.set_ylabel("SDR, dB")
    figure.suptitle(f"{runs[0].stem}: SDR of validation songs; grey: the baselines")
    with finishing(path) as fresh:
        figure.savefig(fresh, format="png", metadata={"Software": None})


def plot_costs(path: Path, runs: Sequence[Run], results: Results) -> None:
    """SDR of the test songs against a net's multiply-adds; rows of one net lie above each other."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot(
        xlabel="million multiply-adds for a second of audio", ylabel="SDR, dB", xscale="log"
    )
    for group in dict.fromkeys(run.group for run in runs):
        found = [results[run.name] for run in runs if run.group == group]
        costs = [result["million_multiply_adds"] for result in found]
        axes.scatter(costs, [sdr_of(result) for result in found], label=group)
    costs = sorted({results[run.name]["million_multiply_adds"] for run in runs})
    told = [cost for cost, last in zip(costs, [0, *costs], strict=False) if cost > 1.03 * last]
    axes.set_xticks(told, [f"{cost}" for cost in told], minor=False)
    axes.set_xticks([], minor=True)
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    axes.legend(fontsize="small", title="rows")
    axes.set_title(f"{runs[0].stem}: median SDR of the test songs")
    with finishing(path) as fresh:
        figure.savefig(fresh, format="png", metadata={"Software": None})

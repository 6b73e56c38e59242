"""The leaderboard as pages, tables and pictures."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from stemforge.eval.leaderboard.published import TEST_SET
from stemforge.eval.leaderboard.tables import (
    SIGNIFICANCE_LEVEL,
    best_methods,
    order_methods,
    printed,
)
from stemforge.eval.scoring.scores import METRICS, TRACK_METRICS

Rows = list[list[str]]
ELSEWHERE = f"{TEST_SET}, 50 whole songs: another test set, not comparable"
BOX_INCHES = 0.3  # height of a method's box
FONT_POINTS = 9
LATEX_SPECIAL = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
}


def to_markdown(
    table: pd.DataFrame,
    targets: Sequence[str],
    *,
    title: str,
    remarks: Sequence[str],
    apart: str,
    problems: Rows,
) -> str:
    """The leaderboard as a Markdown page: SDR first, then all metrics.

    What was scored on another test set has a table of its own, below.

    Args:
        table: result of eval.leaderboard.aggregate.
        targets: columns, in this order.
        title: heading.
        remarks: paragraphs under the heading.
        apart: paragraph over the table of what was scored on another test set.
        problems: see `problem_rows`.

    Returns:
        The page's text.
    """
    lines = [f"# {title}", ""]
    for remark in remarks:
        lines += [remark, ""]
    here, elsewhere = _by_test_set(table)
    lines += _markdown_rows(sdr_rows(here, targets, bold="**{}**".format, mark=r"\*"))
    lines += ["", *_markdown_rows(detail_rows(here, targets))]
    if len(elsewhere):
        lines += ["", f"## {ELSEWHERE}", "", apart, ""]
        lines += _markdown_rows(sdr_rows(elsewhere, targets, bold=str, mark=""))
    if len(problems) > 1:
        lines += ["", "## Not scored, or scored with changes", "", *_markdown_rows(problems)]
    return "\n".join(lines) + "\n"


def to_console(
    table: pd.DataFrame, targets: Sequence[str], *, title: str, remarks: Sequence[str], end: str
) -> str:
    """The SDRs of this test set alone, in aligned columns and without marks.

    Args:
        table: result of eval.leaderboard.aggregate.
        targets: columns, in this order.
        title: first line.
        remarks: paragraphs under it.
        end: last line.
    """
    here, _ = _by_test_set(table)
    rows = sdr_rows(here, targets, bold=str, mark="")
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.rjust, row[1:], widths[1:])) for row in rows]
    lines = [f"{row[0]:<{widths[0]}}  {line}" for row, line in zip(rows, lines, strict=True)]
    return "\n".join([f"# {title}", "", *remarks, "", *lines, "", end])


def sdr_rows(
    table: pd.DataFrame, targets: Sequence[str], *, bold: Callable[[str], str], mark: str
) -> Rows:
    """SDR by method and target, the header first; all of one test set.

    The best of each target is bold; significant differences from the baseline are marked.
    """
    cells = _cells(table)
    best = best_methods(table)
    rows = [["SDR, dB", *(_counted(table, target) for target in targets)]]
    for method in order_methods(table, targets):
        row = [method]
        for target in targets:
            cell = cells.get((method, target))
            text = printed(cell["SDR"]) if cell else "-"
            text = bold(text) if method in best.get(target, ()) else text
            row.append(text + mark if cell and cell["p_value"] < SIGNIFICANCE_LEVEL else text)
        rows.append(row)
    return rows


def detail_rows(table: pd.DataFrame, targets: Sequence[str]) -> Rows:
    """All metrics of all methods; the header first; all of one test set."""
    header = ["method", "target", "SDR", "interval", "p", *METRICS[1:]]
    header += ["frames lost", "undetermined"]
    rows = [[*header, *(name.replace("_", "-") for name in TRACK_METRICS)]]
    cells = _cells(table)
    for method in order_methods(table, targets):
        for target in targets:
            cell = cells.get((method, target))
            if cell is None:
                continue
            low, high = cell["SDR_low"], cell["SDR_high"]
            interval = "-" if math.isnan(low) else f"{low:.2f} to {high:.2f}"
            p = cell["p_value"]
            row = [method, target, printed(cell["SDR"]), interval]
            row.append("-" if math.isnan(p) else f"{p:.3f}" if p >= 0.001 else "< 0.001")
            row += [printed(cell[metric]) for metric in METRICS[1:]]
            row += [_percent(cell[f"{name}_frames_share"]) for name in ("lost", "undetermined")]
            rows.append([*row, *(printed(cell[name]) for name in TRACK_METRICS)])
    return rows


def problem_rows(scores: pd.DataFrame) -> Rows:
    """Problems of tracks and targets; the header first.

    Args:
        scores: the table scores.parquet.
    """
    rows = [["track", "target", "reason", "what", "methods"]]
    methods = scores["method"].nunique()
    labels = ["track", "target", "reason", "note"]
    for key, group in scores[scores["reason"] != ""].groupby(labels, sort=True):
        names = sorted(set(group["method"]))
        some = len(names) < methods or methods == 1
        rows.append([*map(str, key), ", ".join(names) if some else "all"])
    return rows


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100.0 * share:.1f} %"


def _cells(table: pd.DataFrame) -> dict[tuple[str, str], dict[str, Any]]:
    rows: list[Any] = table.to_dict("records")
    return {(row["method"], row["target"]): row for row in rows}


def to_latex(table: pd.DataFrame, targets: Sequence[str], *, caption: str) -> str:
    """The table of SDRs for a paper; needs the package booktabs.

    What was scored on another test set is below a line, and not ranked.

    Args:
        table: result of eval.leaderboard.aggregate.
        targets: columns, in this order.
        caption: plain text under it.
    """
    here, elsewhere = _by_test_set(table)
    header, *rows = sdr_rows(here, targets, bold="\0{}\1".format, mark="*")
    lines = [_latex_row(header), r"\midrule", *map(_latex_row, rows)]
    if len(elsewhere):
        rows = sdr_rows(elsewhere, targets, bold=str, mark="")
        label = rf"\multicolumn{{{1 + len(targets)}}}{{l}}{{{_escape(ELSEWHERE, {})}}} \\"
        lines += [r"\midrule", label, *map(_latex_row, rows[1:])]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\begin{{tabular}}{{l{'r' * len(targets)}}}",
            r"\toprule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            rf"\caption{{{_escape(caption, {})}}}",
            r"\end{table}",
            "",
        ]
    )


def _latex_row(row: Sequence[str]) -> str:
    bold = {"\0": r"\textbf{", "\1": "}"}
    return " & ".join(_escape(cell, bold) for cell in row) + r" \\"


def _escape(text: str, also: dict[str, str]) -> str:
    return "".join((LATEX_SPECIAL | also).get(letter, letter) for letter in text)


def draw_boxes(tracks: pd.DataFrame, target: str, paths: Sequence[Path]) -> None:
    """Box plots of the tracks' SDRs of one target, a box a method, by median.

    Boxes from quartile to quartile with the median in them, whiskers to the last track within
    1.5 times that range, points beyond. The axis ends where the whiskers do, because tracks in
    which a stem hardly plays are far outside. Without any score the plot says so.

    Args:
        tracks: as from eval.leaderboard.track_table.
        target: which.
        paths: files to write, .svg or .png; the same tracks give the same bytes.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cbook import boxplot_stats
    from matplotlib.figure import Figure

    mine = tracks[tracks["target"] == target].dropna(subset="SDR").groupby("method")["SDR"]
    values = {str(n): mine.get_group(n).to_numpy() for n in mine.median().sort_values().index}
    boxes = boxplot_stats(list(values.values()), labels=list(values)) if values else []
    low = min((box["whislo"] for box in boxes), default=0.0)
    high = max((box["whishi"] for box in boxes), default=0.0)
    margin = max(0.05 * (high - low), 1.0)
    inside = (low - margin, high + margin)
    outside = sum(int(((v < inside[0]) | (v > inside[1])).sum()) for v in values.values())
    style: dict[Any, Any] = {
        "svg.hashsalt": "stemforge",
        "svg.fonttype": "none",
        "font.size": FONT_POINTS,
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=(7.0, 1.2 + BOX_INCHES * len(values)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        if boxes:
            axes.bxp(
                boxes,
                orientation="horizontal",
                widths=0.6,
                medianprops={"color": "black"},
                flierprops={"marker": ".", "markersize": 4},
            )
        else:
            axes.set_yticks([])
        axes.set_xlim(*inside)
        axes.grid(axis="x", color="0.85")
        axes.set_axisbelow(True)
        note = f" ({outside} beyond the axis)" if outside else ""
        note = note if boxes else " (no track has a score)"
        axes.set_xlabel(f"SDR of each track, dB{note}")
        axes.set_title(target)
        for path in paths:
            # No date, no version: the same tracks give the same bytes.
            key = "Date" if path.suffix == ".svg" else "Software"
            figure.savefig(path, dpi=120, metadata={key: None})


def _counted(table: pd.DataFrame, target: str) -> str:
    rows = table[table["target"] == target]
    if not len(rows):
        return target
    tracks, missing = int(rows["tracks"].min()), int(rows["silent_tracks"].fillna(0).max())
    counted = f"{tracks} track{'s' * (tracks != 1)}"
    return f"{target} ({counted}{f', {missing} without a score' if missing else ''})"


def _by_test_set(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What was scored here, and what was scored on another test set."""
    here = table["test_set"] == ""
    return table[here], table[~here]


def _markdown_rows(rows: Rows) -> list[str]:
    lines = [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]
    return [lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]]

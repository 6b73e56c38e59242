"""The leaderboard: methods by targets, with intervals and tests."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import scipy.stats
from numpy.typing import NDArray

from stemforge.eval.config import Average
from stemforge.eval.leaderboard import published
from stemforge.eval.scoring.oracles import METHODS
from stemforge.eval.scoring.scores import METRICS, TRACK_METRICS
from stemforge.features.corpus.sources import rest_of

KEYS = ["method", "track", "target"]
COLUMNS = (
    *("method", "target", *METRICS, "SDR_low", "SDR_high", "p_value", "tracks", "silent_tracks"),
    *("lost_frames_share", "undetermined_frames_share", *TRACK_METRICS, "source", "test_set"),
)
SIGNIFICANCE_LEVEL = 0.05


@dataclass(frozen=True)
class Aggregation:
    """How a table is computed from scores.

    Attributes:
        frames: over the frames of a track; those without a score are left out.
        tracks: over tracks; those without a score are left out.
        baseline: method that all others are compared with, track by track.
        confidence: of the intervals, in (0, 1).
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """

    frames: Average
    tracks: Average
    baseline: str
    confidence: float
    resamples: int
    seed: int

    @property
    def statement(self) -> str:
        """What a reader needs to know to compare two tables."""
        return (
            f"{self.frames} over frames, then {self.tracks} over tracks; frames and tracks "
            "without a score are left out"
        )


def track_table(
    scores: pd.DataFrame, whole: pd.DataFrame, *, frames: Average = "median"
) -> pd.DataFrame:
    """One row per method, track and target.

    Args:
        scores: the table scores.parquet.
        whole: eval.scoring.scores.whole_table.
        frames: average over a track's frames.

    Returns:
        Columns method, track, target, METRICS in dB (NaN where no frame has a score), frames,
        lost_frames (those without a score), undetermined_frames (those whose ISR, SIR and SAR
        are noise; NaN where the scores do not say), TRACK_METRICS, reason and note.
    """
    groups = scores[scores["target"] != ""].groupby(KEYS, sort=True)
    table = groups[list(METRICS)].agg(frames)
    table["frames"] = groups["SDR"].size()
    table["lost_frames"] = table["frames"] - groups["SDR"].count()
    # Scores of other programs, and of earlier versions, do not say which frames these are.
    known = "undetermined" in scores
    table["undetermined_frames"] = (
        groups["undetermined"].sum(min_count=1).astype("float64") if known else math.nan
    )
    for name in ("reason", "note"):
        table[name] = groups[name].first()
    found = table.join(whole.set_index(KEYS), how="left").reset_index()
    counts = ["frames", "lost_frames", "undetermined_frames"]
    return found[[*KEYS, *METRICS, *counts, *TRACK_METRICS, "reason", "note"]]


def aggregate(tracks: pd.DataFrame, aggregation: Aggregation) -> pd.DataFrame:
    """The leaderboard's rows.

    Args:
        tracks: as from `track_table`; those of eval.leaderboard.published.sisec18 may stand below.
        aggregation: how scores are averaged.

    Returns:
        One row per method and target: METRICS averaged over tracks, in dB; SDR_low and SDR_high,
        the bootstrap's percentile interval of the SDR; p_value of the paired Wilcoxon test
        against the baseline, Holm's correction over all pairs of this table, NaN for the
        baseline; tracks with a finite SDR and silent_tracks without; lost_frames_share and
        undetermined_frames_share of all frames; TRACK_METRICS, their means over tracks as in the
        Music Demixing Challenges; source and test_set, empty for what was scored here.
    """
    rows = []
    for (method, target), group in tracks.groupby(["method", "target"], sort=True):
        values = group["SDR"].to_numpy(np.float64)
        heard = values[np.isfinite(values)]
        low, high = confidence_interval(heard, aggregation)
        row = {"method": method, "target": target, "tracks": len(heard)}
        row |= {metric: _average(group[metric], aggregation.tracks) for metric in METRICS}
        row |= {"SDR_low": low, "SDR_high": high, "silent_tracks": len(values) - len(heard)}
        for name in ("lost_frames", "undetermined_frames"):
            if name in group:
                row[f"{name}_share"] = group[name].sum(min_count=1) / group["frames"].sum()
        row |= {name: _average(group[name], "mean") for name in TRACK_METRICS if name in group}
        row |= {"source": group["source"].iloc[0] if "source" in group else "", "test_set": ""}
        rows.append(row)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table["p_value"] = holm(_paired_tests(tracks, table, aggregation.baseline))
    return table


def _average(values: pd.Series, how: Average) -> float:
    """Over those that have a value. NaN for none, where pandas before 3 would let NumPy warn."""
    heard = values.dropna()
    return float(heard.agg(how)) if len(heard) else math.nan


def confidence_interval(
    values: NDArray[np.float64], aggregation: Aggregation
) -> tuple[float, float]:
    """Percentile bootstrap interval of the average over tracks; NaN for fewer than two."""
    if len(values) < 2:
        return math.nan, math.nan
    statistic = np.median if aggregation.tracks == "median" else np.mean
    found = scipy.stats.bootstrap(
        (values,),
        statistic,
        n_resamples=aggregation.resamples,
        confidence_level=aggregation.confidence,
        method="percentile",
        rng=np.random.default_rng(aggregation.seed),
    ).confidence_interval
    return float(found.low), float(found.high)


def _paired_tests(tracks: pd.DataFrame, table: pd.DataFrame, baseline: str) -> NDArray[np.float64]:
    """Wilcoxon's p of each row of the table, over the tracks that it shares with the baseline."""
    wide = tracks.pivot(index="track", columns=["method", "target"], values="SDR")
    found = []
    for method, target in zip(table["method"], table["target"], strict=True):
        p = math.nan
        if method != baseline and (baseline, target) in wide.columns:
            differences = (wide[(method, target)] - wide[(baseline, target)]).dropna()
            if len(differences):
                same = not differences.any()
                p = 1.0 if same else float(scipy.stats.wilcoxon(differences).pvalue)
        found.append(p)
    return np.array(found, np.float64)


def holm(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Holm's step-down correction for many tests; NaN stays NaN and does not count.

    Holm: A simple sequentially rejective multiple test procedure (Scandinavian Journal of
    Statistics, 1979): the k-th smallest of m is multiplied by m - k + 1, and none may be
    smaller than one before it.
    """
    corrected = np.full(len(p_values), np.nan)
    order = [n for n in np.argsort(p_values) if np.isfinite(p_values[n])]
    factors = np.arange(len(order), 0, -1)
    steps = np.minimum(1.0, np.maximum.accumulate(p_values[order] * factors))
    corrected[order] = steps
    return corrected


def published_rows() -> pd.DataFrame:
    """Published figures for MUSDB18's test set, medians of medians, as rows of the leaderboard."""
    return published.published().reindex(columns=list(COLUMNS)).assign(tracks=50, test_set="")


def context_rows(aggregation: Aggregation) -> pd.DataFrame:
    """SiSEC 2018's systems and published figures as rows of another test set, for orientation."""
    parts = [aggregate(published.sisec18(), replace(aggregation, baseline=""))]
    if aggregation.tracks == "median":
        parts.append(published_rows())
    table = pd.concat([part.astype(object) for part in parts], ignore_index=True)
    return table.assign(test_set=published.TEST_SET)


def order_methods(table: pd.DataFrame, targets: Sequence[str]) -> list[str]:
    """Methods by mean SDR over their stems, best first.

    Methods without all stems come after. The rests of stems, which are scored for some methods
    only, count where a method has nothing else.
    """
    stems = [target for target in targets if not is_rest(target, targets)]
    wide = table.pivot(index="method", columns="target", values="SDR").reindex(columns=[*targets])
    mean = wide[stems].mean(axis=1).fillna(wide.mean(axis=1))
    keys = pd.DataFrame({"lacks": wide[stems].isna().sum(axis=1), "mean": -mean})
    return [str(name) for name in keys.sort_values(["lacks", "mean"]).index]


def is_rest(target: str, targets: Sequence[str]) -> bool:
    """Whether a column is the rest of one beside it, by the names that rest_of gives."""
    names = (name for stem in targets for name in (rest_of(stem, (stem,)), f"no_{stem}"))
    return target in names


def best_methods(table: pd.DataFrame) -> dict[str, set[str]]:
    """Per target the methods of the highest SDR on this test set, without oracles and mixture.

    All that show the same SDR as the highest one are the best: a reader cannot tell them apart.
    """
    fair = table[(table["test_set"] == "") & ~table["method"].map(is_reference)]
    fair = fair.dropna(subset="SDR")
    best: dict[str, set[str]] = {}
    for target, group in fair.groupby("target"):
        same = group["SDR"].map(printed) == printed(group["SDR"].max())
        best[str(target)] = set(group.loc[same, "method"])
    return best


def printed(value: Any) -> str:
    """A figure as the pages show it: two decimals, or - where there is none."""
    return f"{float(value):z.2f}" if math.isfinite(float(value)) else "-"


def is_reference(method: str) -> bool:
    """Whether a method is an oracle or the mixture, ours or SiSEC 2018's: it separates nothing."""
    return method.split(" (")[0] in METHODS


def metrics(table: pd.DataFrame, methods: Iterable[str]) -> dict[str, Any]:
    """Figures by method, target and metric, as `dvc metrics diff` compares them."""
    names = (*METRICS, *TRACK_METRICS, "lost_frames_share")
    nested: dict[str, Any] = {}
    for row in table[table["method"].isin([*methods])].to_dict("records"):
        values = {name: None if math.isnan(row[name]) else round(row[name], 4) for name in names}
        nested.setdefault(str(row["method"]), {})[str(row["target"])] = values
    return nested

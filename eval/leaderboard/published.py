"""Published scores on MUSDB18: SiSEC 2018's systems per track, and figures from papers."""

from importlib import resources

import pandas as pd

from stemforge.eval.config import Average
from stemforge.eval.scoring.scores import Scoring

TEST_SET = "MUSDB18"
SISEC18_LABEL = "SiSEC 2018"
CAVEAT = (
    "SiSEC 2018's scores are the campaign's own, the published ones those of the sources that "
    "leaderboard.csv names; all are of MUSDB18's 50 test tracks in AAC, and 27 of the campaign's "
    "methods had their vocals scored in a pair with the accompaniment, which moves SIR and SAR, "
    "and SDR by 0.2 dB at most."
)


def fits(how: Scoring, frames: Average) -> bool:
    """Whether tracks were scored as SiSEC 2018 scored them.

    Args:
        how: window, hop and policies on silent and undetermined frames.
        frames: average over a track's frames.
    """
    whole = how.nan_policy == "museval" and how.undetermined == "keep"
    return how.window_s == how.hop_s == 1.0 and whole and frames == "median"


def sisec18() -> pd.DataFrame:
    """SiSEC 2018's systems and oracles.

    Returns:
        Columns method ("TAK1 (SiSEC 2018)"), track, target, SDR, SIR, ISR, SAR (dB, medians
        over 1 s frames), frames and source, for 31 methods and 50 tracks.
    """
    with (
        resources.files("stemforge.eval.leaderboard")
        .joinpath("reference/sisec18.parquet")
        .open("rb") as file
    ):
        table = pd.read_parquet(file)
    table["method"] = [f"{method} ({SISEC18_LABEL})" for method in table["method"]]
    return table.assign(source=SISEC18_LABEL)


def published() -> pd.DataFrame:
    """Published medians over MUSDB18's test tracks.

    Returns:
        Columns method, target, SDR, SIR, ISR, SAR (dB) and source; method names end in
        "(published)".
    """
    with (
        resources.files("stemforge.eval.leaderboard")
        .joinpath("reference/published.csv")
        .open("rb") as file
    ):
        table = pd.read_csv(file)
    table["method"] = [f"{method} (published)" for method in table["method"]]
    return table

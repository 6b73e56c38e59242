import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from stemforge.eval.leaderboard import published
from stemforge.eval.leaderboard import tables as leaderboard
from stemforge.eval.leaderboard.tables import Aggregation
from stemforge.eval.scoring.scores import METRICS

MEDIANS = Aggregation(
    frames="median", tracks="median", baseline="m", confidence=0.95, resamples=999, seed=1
)
MEANS = Aggregation(
    frames="mean", tracks="mean", baseline="m", confidence=0.95, resamples=999, seed=1
)


def frames() -> pd.DataFrame:
    rows = []
    for method, track, target, values in [
        ("m", "one", "vocals", [1.0, 5.0, 3.0]),
        ("m", "two", "vocals", [10.0, np.nan, 20.0]),
        ("m", "one", "bass", [np.nan]),
        ("m", "two", "bass", [7.0]),
        ("MIX", "one", "vocals", [0.0]),
        ("MIX", "two", "vocals", [-1.0]),
        ("MIX", "one", "bass", [np.nan]),
        ("MIX", "two", "bass", [3.0]),
        ("m", "three", "", [np.nan]),
    ]:
        for frame, value in enumerate(values):
            row = {"method": method, "track": track, "target": target, "frame": frame}
            row |= {"reason": "", "note": ""} | dict.fromkeys(METRICS, value)
            rows.append(row)
    return pd.DataFrame(rows)


def test_the_share_of_undetermined_frames_by_hand() -> None:
    marked = frames()
    marked["undetermined"] = (marked["method"] == "m") & (marked["frame"] == 0)
    tracks = leaderboard.track_table(marked, whole())
    found = leaderboard.aggregate(tracks, MEDIANS).set_index(["method", "target"])
    share = found["undetermined_frames_share"]
    assert share["m", "vocals"] == 2 / 6  # the first of three frames, on two tracks
    assert share["m", "bass"] == 1.0
    assert share["MIX", "vocals"] == 0.0
    tracks = leaderboard.track_table(frames(), whole())  # of a version that does not say
    assert leaderboard.aggregate(tracks, MEDIANS)["undetermined_frames_share"].isna().all()


def whole() -> pd.DataFrame:
    keys = [("one", 2.0, math.nan), ("two", 4.0, -60.0)]
    return pd.DataFrame(
        [
            {"method": "m", "track": t, "target": "vocals", "uSDR": u, "SI_SDR": u, "PES": p}
            for t, u, p in keys
        ]
    )


def table(aggregation: Aggregation) -> pd.DataFrame:
    tracks = leaderboard.track_table(frames(), whole(), frames=aggregation.frames)
    return leaderboard.aggregate(tracks, aggregation).set_index(["method", "target"])


def test_aggregation_by_hand() -> None:
    found = table(MEDIANS)
    vocals = found.loc[("m", "vocals")]
    assert vocals["SDR"] == (3.0 + 15.0) / 2  # medians 3 and 15
    assert vocals["tracks"] == 2
    assert vocals["lost_frames_share"] == 1 / 6
    assert vocals["uSDR"] == 3.0
    assert vocals["PES"] == -60.0
    bass = found.loc[("m", "bass")]
    assert bass["SDR"] == 7.0
    assert bass["tracks"] == 1
    assert bass["silent_tracks"] == 1
    assert math.isnan(found["SDR_low"][("m", "bass")])
    assert math.isnan(found["uSDR"][("MIX", "vocals")])
    assert set(found["source"]) == set(found["test_set"]) == {""}


def test_means_by_option() -> None:
    tracks = leaderboard.track_table(frames(), whole(), frames="mean")
    by_track = tracks[tracks["method"] == "m"].set_index(["target", "track"])["SDR"]
    assert by_track["vocals", "one"] == 3.0
    assert by_track["vocals", "two"] == 15.0
    skewed = frames()
    skewed.loc[0, list(METRICS)] = 10.0
    tracks = leaderboard.track_table(skewed, whole(), frames="mean")
    found = leaderboard.aggregate(tracks, MEANS).set_index(["method", "target"])
    assert found.loc[("m", "vocals"), "SDR"] == (6.0 + 15.0) / 2


def test_the_interval_is_that_of_the_mean_where_theory_knows_it() -> None:
    # Percentile intervals of a mean approach the normal distribution's.
    values = np.random.default_rng(3).normal(5.0, 2.0, 400)
    low, high = leaderboard.confidence_interval(values, MEANS)
    error = scipy.stats.sem(values)
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.05)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.05)
    assert (low, high) == leaderboard.confidence_interval(values, MEANS)  # seeded
    assert leaderboard.confidence_interval(np.array([4.0, 4.0, 4.0]), MEDIANS) == (4.0, 4.0)


def test_holm_by_hand() -> None:
    p = np.array([0.01, 0.04, np.nan, 0.03, 0.005])
    # Sorted .005 .01 .03 .04 times 4 3 2 1; the last may not be below the one before.
    np.testing.assert_allclose(leaderboard.holm(p), [0.03, 0.06, np.nan, 0.06, 0.02])
    np.testing.assert_array_equal(leaderboard.holm(np.array([0.9, 0.8])), [1.0, 1.0])


def test_paired_tests_are_scipys_and_corrected() -> None:
    random = np.random.default_rng(5)
    names = [f"track {n}" for n in range(20)]
    base = random.normal(5.0, 3.0, 20)
    better, same = base + random.normal(1.0, 0.5, 20), base.copy()
    rows = [
        {"method": method, "track": name, "target": "vocals", "SDR": value}
        | dict.fromkeys(METRICS[1:], 0.0)
        for method, values in (("m", base), ("better", better), ("same", same))
        for name, value in zip(names, values, strict=True)
    ]
    tracks = pd.DataFrame(rows).sample(frac=1.0, random_state=1)  # pairing is by name
    p = leaderboard.aggregate(tracks, MEDIANS).set_index("method")["p_value"]
    expected = scipy.stats.wilcoxon(better, base).pvalue
    assert p["better"] == pytest.approx(2 * expected)  # the smaller of two tests
    assert p["same"] == 1.0
    assert math.isnan(p["m"])


def test_sisec18_is_what_the_campaign_reported() -> None:
    tracks = published.sisec18()
    assert tracks["method"].nunique() == 31
    assert tracks["track"].nunique() == 50
    found = leaderboard.aggregate(tracks, MEDIANS).set_index(["method", "target"])["SDR"]
    # Medians of medians that others state too: sigsep's and Open-Unmix' tables.
    assert found["TAK1 (SiSEC 2018)", "vocals"] == pytest.approx(6.60, abs=0.005)
    assert found["UHL2 (SiSEC 2018)", "vocals"] == pytest.approx(5.93, abs=0.005)
    assert set(published.published()["source"]) == {
        "Hennequin et al., JOSS 2020",
        "deezer/spleeter#81 (before a correction that gave an average SDR of 4.43)",
    }


def test_order_and_best() -> None:
    rows = [
        ("IRM1", "vocals", 9.0, ""),
        ("IRM1", "bass", 9.0, ""),
        ("one", "vocals", 5.0, ""),
        ("one", "bass", 3.0, ""),
        ("two", "vocals", 8.0, ""),  # no bass
        ("one", "drums", 4.996, ""),
        ("two", "drums", 5.004, ""),  # both show 5.00
        ("one", "other", math.nan, ""),
    ]
    found = pd.DataFrame(rows, columns=["method", "target", "SDR", "test_set"])
    order = leaderboard.order_methods(found, ["vocals", "bass"])
    assert order == ["IRM1", "one", "two"]
    far = pd.DataFrame([("far", "vocals", 99.0, "MUSDB18")], columns=found.columns)
    assert leaderboard.best_methods(pd.concat([found, far])) == {
        "vocals": {"two"},
        "bass": {"one"},
        "drums": {"one", "two"},
    }


@pytest.mark.parametrize(("stem", "rest"), [("drums", "no_drums"), ("vocals", "accompaniment")])
def test_a_rest_that_only_some_methods_have_does_not_order_them(stem: str, rest: str) -> None:
    other = {"vocals": "drums", "drums": "vocals"}[stem]
    rows = [
        ("full", stem, 5.0), ("full", other, 3.0),
        ("IRM1", stem, 4.0), ("IRM1", other, 3.5), ("IRM1", rest, 20.0),
        ("single", stem, 9.0), ("single", rest, 30.0),
        ("rest", rest, 31.0),
    ]  # fmt: skip
    found = pd.DataFrame(rows, columns=["method", "target", "SDR"])
    order = leaderboard.order_methods(found, ["vocals", "drums", rest])
    assert order == ["full", "IRM1", "single", "rest"]


def test_metrics_by_name() -> None:
    found = leaderboard.metrics(table(MEDIANS).reset_index(), ["m"])
    assert set(found) == {"m"}
    assert found["m"]["vocals"]["SDR"] == 9.0
    assert found["m"]["bass"]["uSDR"] is None

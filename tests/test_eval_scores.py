import json
from pathlib import Path

import museval
import numpy as np
import pandas as pd
import pytest

from eval import leaderboard, scores
from tests.conftest import RATE_HZ

WINDOWS = {"window_s": 1.0, "hop_s": 1.0}


@pytest.fixture
def stems(random: np.random.Generator) -> dict[str, np.ndarray]:
    names = ("vocals", "drums", "bass")
    return {name: random.normal(0, 0.1, (2 * RATE_HZ, 2)).astype(np.float32) for name in names}


def noisy(stems: dict[str, np.ndarray], random: np.random.Generator) -> dict[str, np.ndarray]:
    return {k: v + random.normal(0, 0.01, v.shape).astype(np.float32) for k, v in stems.items()}


def test_scores_are_musevals(stems: dict[str, np.ndarray], random: np.random.Generator) -> None:
    estimates = noisy(stems, random)
    values, notes = scores.score_track(stems, estimates, sample_rate_hz=RATE_HZ, **WINDOWS)
    sdr, isr, sir, sar, _ = museval.metrics.bss_eval(
        np.array(list(stems.values())),
        np.array(list(estimates.values())),
        window=RATE_HZ,
        hop=RATE_HZ,
    )
    assert notes == {}
    assert list(values) == list(stems)
    for row, target in enumerate(stems):
        np.testing.assert_allclose(values[target]["SDR"], sdr[row], atol=1e-6)
        np.testing.assert_allclose(values[target]["SIR"], sir[row], atol=1e-6)
        np.testing.assert_allclose(values[target]["ISR"], isr[row], atol=1e-6)
        np.testing.assert_allclose(values[target]["SAR"], sar[row], atol=1e-6)
    # Noise 20 dB below the stem, and 512 filter taps cannot undo it.
    assert 19 < np.median(values["vocals"]["SDR"]) < 22


def test_silent_targets_are_left_out_with_a_note(
    stems: dict[str, np.ndarray], random: np.random.Generator
) -> None:
    estimates = noisy(stems, random)
    stems["bass"] = np.zeros_like(stems["bass"])
    values, notes = scores.score_track(stems, estimates, sample_rate_hz=RATE_HZ, **WINDOWS)
    assert notes == {"bass": "silent reference"}
    others = {name: stems[name] for name in ("vocals", "drums")}
    alone, _ = scores.score_track(others, estimates, sample_rate_hz=RATE_HZ, **WINDOWS)
    assert values == alone
    text = scores.museval_json("song", values, **WINDOWS)
    rows = scores.score_rows("model", "song", text, notes)
    (bass,) = [row for row in rows if row["target"] == "bass"]
    assert np.isnan(bass["SDR"])
    assert bass["note"] == "silent reference"
    estimates["drums"] = np.zeros_like(estimates["drums"])
    _, notes = scores.score_track(stems, estimates, sample_rate_hz=RATE_HZ, **WINDOWS)
    assert notes == {"bass": "silent reference", "drums": "silent estimate"}


def test_json_is_loaded_by_musevals_own_store(
    stems: dict[str, np.ndarray], random: np.random.Generator, tmp_path: Path
) -> None:
    values, _ = scores.score_track(stems, noisy(stems, random), sample_rate_hz=RATE_HZ, **WINDOWS)
    folder = tmp_path / "model" / "test"
    folder.mkdir(parents=True)
    text = scores.museval_json("song", values, **WINDOWS)
    (folder / "song.json").write_text(text)
    store = museval.EvalStore()
    store.add_eval_dir(str(tmp_path / "model"))
    theirs = store.df.groupby(["target", "metric"]).score.median()
    rows = scores.write_scores(
        tmp_path / "scores.parquet", scores.score_rows("model", "song", text, {})
    )
    ours = leaderboard.aggregate(rows).set_index("target")
    for target in stems:
        for metric in scores.METRICS:
            assert ours.loc[target, metric] == pytest.approx(theirs[target, metric], abs=1e-9)
    assert pd.read_parquet(tmp_path / "scores.parquet").equals(rows)
    assert json.loads(text)["targets"][0]["frames"][1]["time"] == 1.0


def table() -> pd.DataFrame:
    rows = []
    for method, track, target, frames in [
        ("m", "one", "vocals", [1.0, 5.0, 2.0]),
        ("m", "two", "vocals", [10.0, np.nan, 20.0]),
        ("m", "one", "bass", [np.nan]),
        ("m", "two", "bass", [7.0]),
        ("MIX", "one", "vocals", [0.0]),
        ("MIX", "two", "vocals", [-1.0]),
        ("MIX", "one", "bass", [np.nan]),
        ("MIX", "two", "bass", [3.0]),
    ]:
        for frame, value in enumerate(frames):
            row = {"method": method, "track": track, "target": target, "frame": frame, "note": ""}
            rows.append(row | dict.fromkeys(scores.METRICS, value))
    return pd.DataFrame(rows)


def test_aggregation_by_hand() -> None:
    found = leaderboard.aggregate(table()).set_index(["method", "target"])
    assert found.loc[("m", "vocals"), "SDR"] == (2.0 + 15.0) / 2  # medians 2 and 15
    assert found.loc[("m", "vocals"), "tracks"] == 2
    assert found.loc[("m", "bass"), "SDR"] == 7.0
    assert found.loc[("m", "bass"), "tracks"] == 1
    assert found.loc[("m", "bass"), "silent_tracks"] == 1


def test_page_and_metrics() -> None:
    found = leaderboard.aggregate(table())
    page = leaderboard.to_markdown(found, ["vocals", "bass"], title="T", remarks=["R."])
    lines = page.splitlines()
    assert lines[:3] == ["# T", "", "R."]
    assert lines[4] == "| SDR, dB | vocals (2 tracks) | bass (1 track, 1 silent) |"
    assert lines[6:8] == ["| m | 8.50 | 7.00 |", "| MIX | -0.50 | 3.00 |"]
    assert leaderboard.metrics(found, "m")["vocals"]["SDR"] == 8.5

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pandas as pd

from stemforge.eval.leaderboard import page as report
from stemforge.eval.leaderboard.tables import COLUMNS
from stemforge.eval.scoring.scores import METRICS


def table() -> pd.DataFrame:
    rows = [
        ("m_1", "vocals", 8.5, 0.01, 2, 0),
        ("m_1", "bass", 7.0, np.nan, 1, 1),
        ("other", "vocals", 9.0, 0.2, 2, 0),
        ("MIX", "vocals", -0.5, 0.0001, 2, 0),
        ("MIX", "bass", 3.0, np.nan, 1, 1),
    ]
    names = ["method", "target", "SDR", "p_value", "tracks", "silent_tracks"]
    found = pd.DataFrame(rows, columns=names).reindex(columns=list(COLUMNS))
    found = found.assign(test_set="", source="", SDR_low=-1.0, SDR_high=10.25)
    found = found.assign(lost_frames_share=0.125, **dict.fromkeys(METRICS[1:], 2.0))
    return found.assign(undetermined_frames_share=[0.5, np.nan, 0.0, 0.25, 1.0])


def scores() -> pd.DataFrame:
    rows = [
        ("m", "song | b", "bass", "silent_reference", "its reference is silent"),
        ("n", "song | b", "bass", "silent_reference", "its reference is silent"),
        ("m", "song", "vocals", "cut", "2 samples too long, cut"),
        ("m", "song", "drums", "", ""),
    ]
    return pd.DataFrame(rows, columns=["method", "track", "target", "reason", "note"])


def test_page() -> None:
    page = report.to_markdown(
        table(),
        ["vocals", "bass"],
        title="T",
        remarks=["R."],
        apart="A.",
        problems=report.problem_rows(scores()),
    )
    lines = page.splitlines()
    assert lines[:3] == ["# T", "", "R."]
    assert lines[4] == "| SDR, dB | vocals (2 tracks) | bass (1 track, 1 without a score) |"
    assert lines[6:9] == [
        r"| m_1 | 8.50\* | **7.00** |",
        r"| MIX | -0.50\* | 3.00 |",
        "| other | **9.00** | - |",
    ]
    assert (
        "| m_1 | vocals | 8.50 | -1.00 to 10.25 | 0.010 | 2.00 | 2.00 | 2.00 | 12.5 % | 50.0 % "
        "| - | - | - |" in lines
    )
    assert "A." not in lines  # nothing is apart
    assert lines[-2:] == [
        "| song | vocals | cut | 2 samples too long, cut | m |",
        "| song / b | bass | silent_reference | its reference is silent | all |",
    ]


def with_another_test_set() -> pd.DataFrame:
    far = table()[lambda rows: rows["method"] == "other"]
    far = far.assign(method="far", SDR=99.0, p_value=np.nan, tracks=50, test_set="MUSDB18")
    return pd.concat([far, table()], ignore_index=True)


def test_another_test_set_stands_below_and_is_not_ranked() -> None:
    page = report.to_markdown(
        with_another_test_set(), ["vocals"], title="T", remarks=[], apart="A.", problems=[[]]
    )
    above, below = page.split("## MUSDB18, 50 whole songs: another test set, not comparable")
    assert "far" not in above
    assert "| other | **9.00** |" in above
    assert below.split("\n\n")[1:] == [
        "A.",
        "| SDR, dB | vocals (50 tracks) |\n| --- | --- |\n| far | 99.00 |\n",
    ]
    text = report.to_latex(with_another_test_set(), ["vocals"], caption="C")
    above, below = text.split("not comparable}")
    assert r"other & \textbf{9.00}" in above
    assert r"far & 99.00 \\" in below


def test_console() -> None:
    text = report.to_console(
        with_another_test_set(), ["vocals", "bass"], title="T", remarks=["S."], end="Rest: p.md"
    )
    assert text.splitlines() == [
        "# T",
        "",
        "S.",
        "",
        "SDR, dB  vocals (2 tracks)  bass (1 track, 1 without a score)",
        "m_1                   8.50                               7.00",
        "MIX                  -0.50                               3.00",
        "other                 9.00                                  -",
        "",
        "Rest: p.md",
    ]


def test_latex_is_escaped() -> None:
    text = report.to_latex(table(), ["vocals", "bass"], caption=r"100 % & \x_{1}")
    assert r"m\_1 & 8.50* & \textbf{7.00} \\" in text
    assert r"\begin{tabular}{lrr}" in text
    assert r"\caption{100 \% \& \textbackslash{}x\_\{1\}}" in text
    assert text.count("\\\\\n") == 4


def test_a_target_without_any_score_has_an_empty_plot(tmp_path: Path) -> None:
    tracks = pd.DataFrame({"method": ["m"], "target": ["vocals"], "SDR": [np.nan]})
    report.draw_boxes(tracks, "vocals", [tmp_path / "vocals.svg"])
    texts = [t.text for t in ET.parse(tmp_path / "vocals.svg").iter() if t.text]
    assert "SDR of each track, dB (no track has a score)" in texts
    assert "m" not in texts


def test_box_plots_show_each_method_and_repeat_byte_for_byte(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    rows = [
        {"method": method, "track": str(n), "target": "vocals", "SDR": value}
        for method in ("good", "bad", "unscored")
        for n, value in enumerate(random.normal(5.0, 2.0, 9) - 9.0 * (method == "bad"))
    ]
    tracks = pd.DataFrame(rows)
    tracks.loc[tracks["method"] == "unscored", "SDR"] = np.nan
    tracks.loc[0, "SDR"] = -80.0  # far outside
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        paths = [tmp_path / folder / f"vocals.{ending}" for ending in ("svg", "png")]
        report.draw_boxes(tracks, "vocals", paths)
    for name in ("vocals.svg", "vocals.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert (tmp_path / "a" / "vocals.png").read_bytes().startswith(b"\x89PNG")
    texts = [t.text for t in ET.parse(tmp_path / "a" / "vocals.svg").iter() if t.text]
    assert {"good", "bad", "vocals", "SDR of each track, dB (1 beyond the axis)"} <= set(texts)
    assert "unscored" not in texts

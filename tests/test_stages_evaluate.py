"""Stages evaluate and leaderboard on estimates that are not as they should be."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from stemforge.pipelines.console import run_main
from stemforge.pipelines.stages import corpus, decode, evaluate, leaderboard
from tests.conftest import RATE_HZ, ROOT
from tests.factories import set_params

STEMS = ("vocals", "drums")
TRACKS = ("One", "Two")


@pytest.fixture
def project(in_tmp: Path) -> Path:
    """A decoded corpus of noise, and perfect estimates but for one track's drums."""
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    shutil.copytree(ROOT / "comparisons", "comparisons")
    set_params(in_tmp, corpus__root="hq", corpus__stems=list(STEMS), models=list(STEMS))
    random = np.random.default_rng(1)
    for split, names in (("train", ("Other",)), ("test", TRACKS)):
        for name in names:
            stems = {stem: random.normal(0, 0.1, (2 * RATE_HZ, 2)) for stem in STEMS}
            estimates = {stem: 0.9 * waveform for stem, waveform in stems.items()}
            estimates["drums"] = estimates["drums"][:-100] if name == "Two" else estimates["drums"]
            stems["mixture"] = stems["vocals"] + stems["drums"]
            for folder, found in ((f"hq/{split}/{name}", stems), (f"estimates/{name}", estimates)):
                Path(folder).mkdir(parents=True)
                for stem, waveform in found.items():
                    soundfile.write(f"{folder}/{stem}.wav", waveform, RATE_HZ, subtype="FLOAT")
    shutil.rmtree("estimates/Other")
    for stage in (corpus, decode):
        assert run_main(stage.main) == 0
    return in_tmp


def keep_only(track: str) -> None:
    """Takes the other test track out of the corpus: what is scored takes seconds each."""
    for name in TRACKS:
        if name != track:
            shutil.rmtree(f"hq/test/{name}")
            shutil.rmtree(f"estimates/{name}")
    assert run_main(decode.main) == 0


def test_rejects_go_into_the_tables(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main(evaluate.main) == 0
    said = capsys.readouterr().err
    assert "evaluate: stemforge: Two: drums: padded: 100 samples short" in said
    scores = pd.read_parquet("scores/scores.parquet")
    assert set(scores["method"]) == {
        *("stemforge", "UNPROCESSED", "MIX", "IRM1", "IRM2", "IBM1", "IBM2", "MWF")
    }
    mine = scores[(scores["method"] == "stemforge") & (scores["reason"] != "")]
    assert set(zip(mine["track"], mine["target"], mine["reason"], strict=True)) == {
        ("Two", "drums", "padded")
    }
    # 20 dB: a tenth of the stem is missing.
    assert scores.loc[(scores["method"] == "stemforge"), "SDR"].max() == pytest.approx(20.0)
    shutil.copytree("scores/MWF", "comparisons/theirs")
    Path("comparisons/broken/test").mkdir(parents=True)
    Path("comparisons/broken/test/One.json").write_text('{"targets": [')
    capsys.readouterr()
    assert run_main(leaderboard.main) == 0
    printed, said = capsys.readouterr()
    page = Path("leaderboard/leaderboard.md").read_text()
    assert printed.endswith("All metrics, intervals and tests: leaderboard/leaderboard.md\n")
    rows = [line.replace("*", "").split() for line in printed.splitlines()]
    assert ["stemforge", "20.00"] in [row[:2] for row in rows]
    assert (
        "leaderboard: broken: One: not_scored: broken/test/One.json: not JSON: Expecting value"
        in said
    )
    assert "| One |  | not_scored | broken/test/One.json: not JSON: Expecting value" in page
    assert "| Two | drums | padded | 100 samples short, padded with zeros | stemforge |" in page
    table = pd.read_csv("leaderboard/leaderboard.csv").set_index(["method", "target"])
    assert table.loc[("theirs", "drums"), "SDR"] == table.loc[("MWF", "drums"), "SDR"]
    metrics = json.loads(Path("leaderboard/metrics.json").read_text())
    assert metrics["stemforge"]["vocals"]["SDR"] == pytest.approx(20.0, abs=1e-3)
    Path("comparisons/theirs").rename("comparisons/MIX")
    assert run_main(leaderboard.main) == 2
    assert "comparisons/MIX: this name is reserved" in capsys.readouterr().err


def test_strict_makes_them_an_error(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep_only("Two")
    set_params(project, evaluate__strict=True)
    assert run_main(evaluate.main) == 2
    said = capsys.readouterr().err
    assert "evaluate.strict=true: 1 estimates have problems" in said
    assert not Path("scores").exists()


def test_without_estimates(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree("estimates")
    assert run_main(evaluate.main) == 2
    assert "estimates: no such folder" in capsys.readouterr().err


def test_per_source_and_accompaniment(project: Path) -> None:
    keep_only("One")
    mixture, _ = soundfile.read("hq/test/One/mixture.wav")
    # Vocals that are all of the mixture leave nothing for the accompaniment.
    for stem, beginning in (("drums", 0.0), ("vocals", mixture[:RATE_HZ])):
        estimate, _ = soundfile.read(f"estimates/One/{stem}.wav")
        estimate[:RATE_HZ] = beginning
        soundfile.write(f"estimates/One/{stem}.wav", estimate, RATE_HZ, subtype="FLOAT")
    frames = {}
    for policy in ("museval", "per_source"):
        set_params(project, evaluate__nan_policy=policy, evaluate__accompaniment=True)
        assert run_main(evaluate.main) == 0
        scores = pd.read_parquet("scores/scores.parquet")
        mine = scores[(scores["method"] == "stemforge") & (scores["track"] == "One")]
        frames[policy] = mine.pivot(index="target", columns="frame", values="SDR")
    assert frames["museval"][0].isna().all()  # the pair of vocals and accompaniment too
    found = frames["per_source"][0].isna()
    assert found.to_dict() == {"accompaniment": True, "drums": True, "vocals": False}
    assert not frames["per_source"][1].isna().any()

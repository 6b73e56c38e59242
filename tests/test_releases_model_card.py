"""A release's README.md and CITATION.cff, as hubs, readers and their programs take them."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from huggingface_hub import EvalResult, ModelCard
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from stemforge.pipelines.releases.front_matter import front_matter, to_yaml
from stemforge.pipelines.releases.model_card import render
from stemforge.train.nets.unet import UNet
from tests.conftest import RATE_HZ

STEMS = ("vocals", "no", "drums")  # YAML 1.1 reads a bare no as false
HOSTILE = 'Ünï: "quoted" \\ #1 {{ x }} 𠮷\n---\nlicense: mit\n\u2028\x85\x7f'
NET = UNet(16, 64, 2, 3, "batch", 0.0, "elu", "elu", "sigmoid", "linear")
METRICS = {
    "stemforge": {
        "vocals": {"SDR": 6.1068, "SIR": 12.4},
        "drums": {"SDR": None, "SIR": None},  # silent in every test track
        "no": {"SDR": -0.0321, "SIR": 1.0},
    },
    "IRM1": {"vocals": {"SDR": 12.48}},
}


def write_release(
    folder: Path, *, root: str = "data/starter", author: str = "A. Author"
) -> dict[str, Any]:
    """The made-up parts of a release that a card is made of, and its provenance."""
    for stem in STEMS:
        card = {"version": 4, "stems": [stem], "net": {"kind": "unet", **vars(NET)},
                "frame_length_samples": 4096, "frame_step_samples": 1024,
                "sample_rate_hz": RATE_HZ, "provenance": {"step": 7}}  # fmt: skip
        (folder / "models" / stem).mkdir(parents=True)
        (folder / "models" / stem / "model.json").write_text(json.dumps(card))
        (folder / "exports" / stem).mkdir(parents=True)
        (folder / "exports" / stem / f"{stem}-float16.tflite").write_bytes(bytes(2_000_000))
    (folder / "exports" / "separate-16.tflite").write_bytes(bytes(4_000_000))
    board = folder / "leaderboard"
    board.mkdir()
    (board / "metrics.json").write_text(json.dumps(METRICS))
    rows = [
        ("stemforge", "vocals", 6.1068, 5.0, 7.0, ""),
        ("stemforge", "no", -0.0321, -0.001, 1.5, ""),
        ("IRM1", "vocals", 12.48, 11.0, 13.0, ""),
        ("IRM1 (SiSEC 2018)", "vocals", 8.52, 8.0, 9.0, "MUSDB18"),
    ]
    columns = ["method", "target", "SDR", "SDR_low", "SDR_high", "test_set"]
    pd.DataFrame(rows, columns=columns).to_parquet(board / "leaderboard.parquet")
    tracks = [("stemforge", "B", "vocals", 6.0), ("stemforge", "A", "vocals", 2.5)]
    columns = ["method", "track", "target", "SDR"]
    pd.DataFrame(tracks, columns=columns).to_csv(board / "tracks.csv", index=False)
    parameters = {
        "release": {"license": "CC-BY-NC-SA-4.0", "authors": [author], "corpus_license": "free",
                    "intended_use": "Research."},
        "leaderboard": {"frames": "median", "tracks": "mean", "confidence": 0.95},
        "export": {"frames": [32, 16]},
        "train": {"loss": {"l1": 1.0, "mask": 0.1}, "optimizer": "adam",
                  "learning_rate": 1e-3, "steps": 9, "batch_size": 4},
    }  # fmt: skip
    splits = {name: {"tracks": ["A", "B"], "seconds": 90.0} for name in ("train", "test")}
    return {
        "name": "starter",
        "version": "1.10",
        "parameters": parameters,
        "corpus": {"root": root, "stems": [*STEMS], "splits": splits},
        "git": {"commit": "0123456789", "clean": True, "changed": []},
        "packages": {"stemforge": "0.1.0"},
    }


def parity(change_db: float, difference: float) -> dict[str, Any]:
    return {"sdr_change_db": change_db, "relative_difference": difference, "finite": True}


PARITY = {
    "vocals/vocals-float16.tflite": {"vocals": parity(-0.0001, 1e-3)},
    "drums/drums-float16.tflite": {"drums": parity(-0.25, 2e-3)},
    "no/no-float16.tflite": {"no": parity(0.1, 5e-4)},
    "separate-16.tflite": {stem: parity(-0.0001, 3e-3) for stem in STEMS},
}


def load(text: str, folder: Path) -> Any:
    """As a hub's own library reads it; what is the path of a file is not fetched."""
    path = folder / "README.md"
    path.write_text(text, encoding="utf-8")
    return ModelCard.load(path)


@pytest.mark.parametrize("root", ["data/starter", f"/home/me/{HOSTILE}"], ids=["", "hostile"])
def test_hubs_read_what_was_measured(tmp_path: Path, root: str) -> None:
    record = write_release(tmp_path, root=root)
    text = render(tmp_path, record, {"remark": None}, PARITY)["README.md"]
    card = load(text, tmp_path)
    name = root.rpartition("/")[2]
    expected = {"vocals": 6.1068, "no": -0.0321}  # drums was not measured
    assert card.data.eval_results == [
        EvalResult(
            task_type="audio-to-audio",
            task_name="Music source separation",
            dataset_type=name,
            dataset_name=name,
            dataset_split="test",
            metric_type="sdr",
            metric_name=f"SDR of {stem} in dB, BSSEval v4 (median of a track's frames, mean of "
            "tracks)",
            metric_value=value,
        )
        for stem, value in expected.items()
    ]
    known = {"license": "cc-by-nc-sa-4.0", "library_name": "stemforge",
             "pipeline_tag": "audio-to-audio", "model_name": "starter"}  # fmt: skip
    assert {key: card.data[key] for key in known} == known
    assert card.data.language is None
    assert card.data.datasets is None
    assert "/home/me" not in text
    again = load(str(card), tmp_path)
    assert again.data.to_dict() == card.data.to_dict()
    assert again.data.eval_results == card.data.eval_results
    assert card.text.lstrip().startswith("# starter 1.10\n")


def test_a_card_without_scores_has_no_model_index(tmp_path: Path) -> None:
    record = write_release(tmp_path)
    assert "model-index" not in front_matter(record, {"vocals": {"SDR": None}})


@settings(deadline=None, max_examples=50)
@given(st.text())
@example(HOSTILE)
@example("on")
@example("1:30")
@example("- a")
@example("x" * 200 + " y")
def test_any_text_survives_yaml(text: str) -> None:
    """Read by a hub's own library: YAML 1.1, where a bare `on` is true."""
    written = to_yaml({"first": [{"name": text, "value": 0.25}]})
    card: Any = ModelCard(f"---\n{written}\nsecond: {to_yaml(text)}\n---\nbody")
    assert card.data["first"] == [{"name": text, "value": 0.25}]
    assert card.data["second"] == text
    assert card.text == "body"


def test_any_author_can_be_cited(tmp_path: Path) -> None:
    record = write_release(tmp_path, author=HOSTILE)
    text = render(tmp_path, record, {"remark": None}, PARITY)["CITATION.cff"]
    citation = YAML(typ="safe").load(text)
    assert citation["authors"] == [{"name": HOSTILE}]
    assert citation["version"] == "1.10"
    assert citation["license"] == "CC-BY-NC-SA-4.0"


def test_intervals_are_those_of_this_test_set(tmp_path: Path) -> None:
    record = write_release(tmp_path)
    place = tmp_path / "leaderboard" / "leaderboard.parquet"
    table = pd.read_parquet(place)
    table.loc[table["test_set"] == "", ["SDR_low", "SDR_high"]] = float("nan")  # a single song
    table.to_parquet(place)
    assert "intervals" not in render(tmp_path, record, {"remark": None}, PARITY)["README.md"]


def test_the_card_in_a_readers_eyes(tmp_path: Path) -> None:
    record = write_release(tmp_path)
    lines = render(tmp_path, record, {"remark": None}, PARITY)["README.md"].splitlines()
    for line in (
        "| stemforge | 6.11 (5.00 to 7.00) | -0.03 (0.00 to 1.50) | - |",
        "| IRM1 | 12.48 (11.00 to 13.00) | - | - |",
        '- vocals: worst on "A", 2.50 dB.',
        "| train | 2 | 1.5 |",
        "| validation | 0 | 0.0 |",
        # The worst of three files, and the worst stem of one.
        "| MODEL/MODEL-float16.tflite, 3 files | 2.0 | 2.0e-03 | -0.250 |",
        "| separate-16.tflite | 4.0 | 3.0e-03 | +0.000 |",
        "made: commit 0123456, parameters, tracks of each split, package versions.",
    ):
        assert line in lines
    text = "\n".join(lines)
    assert "SiSEC" not in text  # of another test set
    assert "SDR in dB of 2 test tracks (BSSEval v4; median of a track's frames, mean of" in text
    assert "with 95 % intervals" in text
    assert "Other code" not in text
    record["git"]["clean"] = False
    record["code"] = {"train": "0" * 64, "accepted": ["no", "vocals"]}
    text = render(tmp_path, record, {"remark": "A **smoke** corpus."}, PARITY)["README.md"]
    assert "commit 0123456 with uncommitted changes," in text
    assert "\nOther code or packages than these trained no, vocals.\n" in text
    assert "\nA **smoke** corpus.\n" in text


def test_a_single_stem_is_shown_with_the_rest(tmp_path: Path) -> None:
    record = write_release(tmp_path)
    for stem in ("no", "drums"):
        shutil.rmtree(tmp_path / "models" / stem)
    place = tmp_path / "leaderboard" / "leaderboard.parquet"
    table = pd.read_parquet(place)
    table.replace({"target": {"no": "accompaniment"}}).to_parquet(place)
    text = render(tmp_path, record, {"remark": None}, PARITY)["README.md"]
    for line in (
        "Separates the vocals from the rest of the music.",
        "stemforge separate song.mp3 --model models --output stems --residual",
        'names = ["vocals"]',
        "| method | vocals | accompaniment |",
        "| stemforge | 6.11 (5.00 to 7.00) | -0.03 (0.00 to 1.50) |",
    ):
        assert line in text.splitlines()
    assert "): one net. Its input is" in text


def test_one_test_track_has_no_interval(tmp_path: Path) -> None:
    record = write_release(tmp_path)
    record["corpus"]["splits"]["test"]["tracks"] = ["A"]
    place = tmp_path / "leaderboard" / "leaderboard.parquet"
    pd.read_parquet(place).assign(SDR_low=math.nan, SDR_high=math.nan).to_parquet(place)
    text = render(tmp_path, record, {"remark": None}, PARITY)["README.md"]
    assert "SDR in dB of 1 test track (BSSEval v4; " in text
    assert "| stemforge | 6.11 | -0.03 | - |" in text
    assert "interval" not in text

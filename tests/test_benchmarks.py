"""What the benchmarks share, and that each of them is run by a test and named by the docs."""

import dataclasses
import importlib
import re
from pathlib import Path
from typing import Any, get_args

import keras
import numpy as np
import pytest
from ruamel.yaml import YAML

from benchmarks import (
    common,
    features,
    full_size,
    net_costs,
    rounding,
    study,
    study_report,
    study_rows,
)
from stemforge.pipelines.params import read_params
from stemforge.pipelines.train_section import Train
from stemforge.train.config import LossName
from stemforge.train.nets import NETS
from tests.conftest import ROOT
from tests.system.test_benchmarks import CASES, NET

# A benchmark that a test of its own runs, by parts: it downloads everything anew.
ELSEWHERE = {"installs": ROOT / "tests" / "system" / "test_installs.py"}
SCRIPTS = {
    path.stem
    for path in (ROOT / "benchmarks").glob("*.py")
    if 'if __name__ == "__main__"' in path.read_text(encoding="utf-8")
}
# Started by others, most of them in another environment.
THEIRS = {name for name in SCRIPTS if name.startswith(("spleeter_", "onnx_", "litert_"))}


def test_every_benchmark_has_a_case() -> None:
    assert CASES.keys() | ELSEWHERE.keys() == SCRIPTS - THEIRS
    for name, path in ELSEWHERE.items():
        assert f"{name}.install(" in path.read_text(encoding="utf-8")


def test_documents_name_benchmarks_as_they_are_called() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    texts = [page.read_text(encoding="utf-8") for page in pages]
    called = {name for text in texts for name in re.findall(r"\bbenchmarks[./](\w+)", text)}
    assert set(CASES) <= called <= SCRIPTS
    assert not any("python benchmarks/" in text for text in texts)


def test_the_full_size_net_is_the_presets() -> None:
    assert full_size.full_size() == full_size.spleeter_params().train.net


def test_multiply_adds_of_each_kind_of_layer() -> None:
    net = dataclasses.replace(NET, frames=128)
    operations = full_size.forward_operations(net)  # a formula for the U-Net alone
    assert net_costs.multiply_adds(net.build(["vocals"])) * 2 == operations
    # Three bidirectional layers of u units, four gates, on 2 x 64 values, and a dense layer.
    values, units, frames = 128, 250, 16
    inputs = (values, 2 * units, 2 * units)
    frame = sum(2 * 4 * units * (size + units) for size in inputs) + 2 * units * values
    blstm = net_costs.net_of("blstm", frames, values // 2).build(["vocals"])
    assert net_costs.multiply_adds(blstm) == frames * frame


def test_documents_list_the_nets_of_full_size() -> None:
    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    listed = {}
    for line in re.findall(r"^    net: (\{kind: .*(?:\n         .*)*\})$", text, re.M):
        fields = YAML(typ="safe").load(line)
        kind, _ = fields.pop("kind"), fields.pop("frames")
        listed[kind] = fields
    assert listed == net_costs.FULL_SIZE


def test_operations_are_those_of_keras_layers() -> None:
    convolution, transposed = keras.layers.Conv2D, keras.layers.Conv2DTranspose
    net = dataclasses.replace(NET, frames=128)
    layers: list[Any] = net.build(["vocals"]).layers
    forward = {}
    for layer in layers:
        if isinstance(layer, convolution | transposed):
            grid = layer.input if isinstance(layer, transposed) else layer.output
            _, rows, columns, _ = grid.shape
            forward[layer.name] = 2.0 * rows * columns * np.prod(layer.kernel.shape)
    assert len(forward) == 13
    assert full_size.forward_operations(net) == sum(forward.values())
    backward = sum(forward.values()) * 2 - forward["encoder_0"]
    assert full_size.step_operations(net) == sum(forward.values()) + backward


def test_features_are_made_again_only_for_another_corpus_or_other_parameters(
    tmp_path: Path,
) -> None:
    project, corpus = tmp_path / "project", tmp_path / "corpus"
    assert common.write_params(project, corpus, {"features": {"shards": 2}})
    assert not common.write_params(project, corpus, {"features": {"shards": 2}})
    assert common.write_params(project, corpus, {"features": {"shards": 3}})
    assert common.write_params(project, tmp_path, {"features": {"shards": 3}})
    assert not common.write_params(project, tmp_path, {"features": {"shards": 3}})


def test_medians_are_those_of_the_turns_after_warming_up() -> None:
    values = {"a": iter([99.0, 3.0, 1.0, 2.0]), "b": iter([0.0, 5.0, 5.0, 6.0])}
    runs = {name: lambda it=it: next(it) for name, it in values.items()}
    assert common.turn_by_turn(runs, 3, warm_up=1) == {"a": 2.0, "b": 5.0}


def test_a_table_is_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    common.print_table(("a", "b"), [("x", 1)])
    assert capsys.readouterr().out == "| a | b |\n| --- | --- |\n| x | 1 |\n"


def test_the_feature_jobs_line_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    seconds = {1: (12.0, 2.9), 4: (50.0, 7.0), 16: (200.0, 22.0)}
    features.report_line(
        {n: features.Job(wall, 0.0, audio) for n, (audio, wall) in seconds.items()}
    )
    said = capsys.readouterr().out
    assert "10 audio-s per s after 2.0 s of starting" in said  # through the two largest
    assert "1x as that line says: 3.2 s" in said


def test_where_flags_and_differences_disagree_by_hand() -> None:
    differences_db = np.array([0.0, 2e-6, np.inf, 3e-7, 0.0, 5e-6, np.nan])
    flags = np.array([False, True, True, True, False, False, False])
    assert [*rounding.summary(differences_db[:6], flags[:6])] == [
        *("6", "3", "3", "1", "1"),  # frames, differ, flagged, false alarms, misses
        *("2.0e-06", "inf", "5.0e-06"),
    ]
    assert [*rounding.summary(differences_db[6:], flags[6:])][:5] == ["1", "1", "0", "0", "1"]
    assert [*rounding.summary(differences_db[:1], flags[:1])] == [
        *("1", "0", "0", "0", "0", "", "", "0.0e+00"),
    ]


def test_estimates_below_a_frequency_have_nothing_above_it() -> None:
    noise = np.random.default_rng(0).normal(size=(common.RATE_HZ, 2))
    levels = np.abs(np.fft.rfft(rounding.low_passed(noise, 11_000.0), axis=0))  # bins of 1 Hz
    assert levels[11_000:].max() < 1e-4 < levels[1:11_000].min()


def test_excerpts_of_a_folder_without_songs_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        rounding.main([str(tmp_path)])
    assert f"{tmp_path}: no test/*.stem.mp4: name a folder" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["train_step", "separate"])
def test_spleeter_is_not_compared_with_another_net(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["corpus"] if name == "train_step" else []
    with pytest.raises(SystemExit, match="2"):
        importlib.import_module(f"benchmarks.{name}").main([*arguments, "--width", "8"])
    assert "others only with --without-spleeter" in capsys.readouterr().err


def test_the_studys_base_names_every_key_of_the_section() -> None:
    base = YAML(typ="safe").load(study_rows.ROWS.read_text(encoding="utf-8"))["base"]
    assert base.keys() == Train.model_fields.keys()


def test_every_row_of_the_study_can_be_trained(tmp_path: Path) -> None:
    runs = [run for run in study_rows.read_runs() if run.stem == "vocals"]
    rows = {run.row for run in runs}
    assert all(rows >= {*run.baselines} - {None} for run in runs)
    assert len({len(run.baselines) for run in runs}) == 1  # the table's columns
    used: set[str] = set()
    for number, run in enumerate(runs):
        common.write_params(tmp_path / str(number), tmp_path, run.changes())
        train = read_params(tmp_path / str(number) / "params.yaml").train
        used |= {train.net.kind, *train.loss}
    assert used == {*NETS, *get_args(LossName)}  # each net and each loss has a row


def test_the_studys_page_shows_its_results() -> None:
    runs = study_rows.read_runs()
    results = study.read_results(ROOT / "docs" / "study" / "runs.json")
    assert results.keys() == {run.name for run in runs}
    lines = study_report.table(runs, ["vocals", "drums"], results)
    page = (ROOT / "docs" / "study.md").read_text(encoding="utf-8").splitlines()
    begin, end = (page.index(mark) for mark in (study_report.BEGIN, study_report.END))
    assert [line for line in page[begin + 1 : end] if line] == lines


def test_what_the_studys_page_says_of_seeds_and_songs() -> None:
    """Figures of its text that are in no cell of its table."""
    results = study.read_results(ROOT / "docs" / "study" / "runs.json")
    text = " ".join((ROOT / "docs" / "study.md").read_text(encoding="utf-8").split())

    def scores(row: str, *seeds: int) -> np.ndarray:
        found = [results[f"{row}, seed {seed}"]["songs"].values() for seed in seeds]
        return np.array([[song[0] for song in songs] for songs in found]).mean(axis=0)

    ours = scores("all together, drums", 1, 2)
    above = [np.mean(ours - scores("batch norm, drums", seed)) for seed in (1, 2)]
    assert f"{above[0]:.2f} above the one seed of batch norm and {above[1]:.2f} above" in text
    medians = [np.median(scores("all together, vocals", seed)) for seed in (1, 2)]
    assert f"which one seed reaches ({medians[0]:.2f}) and the other not ({medians[1]:.2f})" in text
    gains = scores("all together, 1200 steps, vocals", 1) - scores("all together, vocals", 1, 2)
    third, second, first = np.sort(gains)[-3:]
    assert f"two songs gain {second:.0f} and {first:.0f} dB" in text
    assert third < 2.0
    folds = scores("snr, without augmentation, vocals", 1) - scores(
        "snr, fold 4, without augmentation, vocals", 1
    )
    assert np.max(folds) > np.sum(folds) / 2  # "most of it comes from one song"
    moved = np.mean(scores("batch norm, drums", 2) - scores("batch norm, drums", 1))
    assert f"but batch norm's mean on the drums by {moved:.1f}" in text


def test_the_studys_table_by_hand(tmp_path: Path) -> None:
    rows = tmp_path / "study.yaml"
    rows.write_text(
        "stems: [drums]\nseeds: [1]\nbaselines: [theirs, ours]\n"
        "base: {steps: 2, net: {kind: unet, width: 8}}\nrows:\n"
        "  - {row: theirs, group: Rates}\n"
        "  - {row: other net, group: Nets, seeds: [1, 2], train: {net: {kind: blstm, units: 3}}}\n"
        "  - {row: longer, group: Long, baselines: [other net, theirs], copies: 4}\n"
        "  - {row: far, group: Long, baselines: [null, null], changes: longer}\n"
    )
    runs = study_rows.read_runs(rows)
    assert [run.seed for run in runs] == [1, 1, 2, 1, 1]
    assert runs[2].train == {"steps": 2, "net": {"kind": "blstm", "units": 3}}
    assert runs[3].changes()["copies"] == {"per_song": 4}
    curve = [[1, 3.0, None, None], [2, 2.0, 2.5, 4.0], [3, 2.0, 2.5, 4.5]]
    songs = [
        {"a": [1.0, 5.0], "b": [2.0, 6.0], "c": [None, None]},
        {"a": [2.0, 5.0], "b": [3.5, 6.0], "c": [9.0, 7.0]},
        {"a": [3.0, 5.0], "b": [3.5, 6.0], "c": [9.0, 7.0]},
        {"a": [4.0, 5.0], "b": [5.0, 6.0], "c": [9.0, 7.0]},
        {"a": [6.0, 5.0], "b": [5.0, 6.0], "c": [9.0, 7.0]},
    ]
    results = {
        run.name: {"songs": found, "curve": curve, "million_multiply_adds": 100 * number}
        for number, (run, found) in enumerate(zip(runs, songs, strict=True), start=1)
    }
    page = tmp_path / "study.md"
    page.write_text(f"# Page\n{study_report.BEGIN}\nold\n{study_report.END}\nEnd\n")
    (tmp_path / "study").mkdir()
    lines = study_report.write(tmp_path, runs, results)
    assert lines == [
        "| dB | drums | above theirs | above ours | above the row it changes |",
        "| --- | --- | --- | --- | --- |",
        "| **Rates** | | | | |",
        "| theirs | 1.50 |  |  |  |",
        "| **Nets** | | | | |",
        # Medians 3.5 and 3.5; differences of a and b 1.0 and 1.5, then 2.0 and 1.5.
        "| other net | 3.50 (2 seeds) | +1.50 (+1.50 to +1.50) |  |  |",
        "| **Long** | | | | |",
        # Of a and b, and of c: 4 - 2.5, 5 - 3.5, 9 - 9; then 4 - 1 and 5 - 2.
        "| longer | 5.00 | +1.00 (+0.00 to +1.50) | +3.00 (+3.00 to +3.00) |  |",
        # 6 - 4, 5 - 5, 9 - 9: one of 27 samples of three is 2 alone, eight are 0 alone.
        "| far | 6.00 |  |  | longer: +0.67 (+0.00 to +2.00) |",
    ]
    text = page.read_text()
    assert text.startswith("# Page\n")
    assert text.endswith("\nEnd\n")
    assert "old" not in text
    assert lines[5] in text
    for kind in ("curves", "costs"):
        assert (tmp_path / "study" / f"{kind}-drums.png").stat().st_size > 10_000

"""Each benchmark runs on its smallest case, so that what docs/ cites can be measured again."""

import dataclasses
import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from benchmarks import common, full_size
from stemforge.pipelines.params import read_params
from stemforge.train import unet
from stemforge.train.config import Net
from tests.conftest import ROOT

NET = Net(256, 64, 2, 6, "affine", 0.0, "elu", "elu", "sigmoid")
SMALL = ["--frames", "64", "--width", "2"]
PRODUCT = ["--matrix", "64"]
OURS = "--without-spleeter"
# What follows a benchmark's name on the smallest command line, and first cells of its tables.
CASES: dict[str, tuple[list[str], list[str]]] = {
    "bss_eval": (["--seconds", "2", "--turns", "1"], ["museval", "stemforge"]),
    "distributed": (
        ["{corpus}", "--work", "{work}", *SMALL, "--turns", "1", "--steps", "2",
         "--cases", "one device", "two processes"],
        ["one device", "two processes", "GPUs of one machine"],
    ),
    "encodings": (["{song}"], ["float32", "float16", "uint8"]),
    "features": (
        ["{corpus}", OURS, "--runs", "1", "--copies", "1", "2", "--minutes", "0.1"],
        ["(a) stemforge, 18 s, two processes", "(c) reading as int16, FFTs, writing alone", "2x"],
    ),
    "int8_layers": (["{models}", "{song}", "--turns", "1"], ["plain", "encoder_0", "mask"]),
    "monitors": (
        ["{corpus}", "--work", "{work}", *SMALL, "--runs", "1"],
        ["tensorboard", "tensorboard, audio", "dvclive"],
    ),
    "nets": ([*SMALL, *PRODUCT, "--turns", "1"], ["our operations", "at a matrix product's speed"]),
    "reader": (
        ["{corpus}", "--work", "{work}", OURS, "--frames", "64", "--batches", "2", "--runs", "1"],
        [f"stemforge, mixture and {stems} of 4 stems, {state}"
         for stems in (1, 4) for state in ("cold", "warm")],
    ),
    "separate": (
        [OURS, *SMALL, *PRODUCT, "--seconds", "1", "--turns", "1"],
        ["TensorFlow float32", "TensorFlow bfloat16", "LiteRT float32"],
    ),
    "separation_quality": (
        ["{models}", "{song}", "--start", "0.5", "--seconds", "2"],
        ["float32", "bfloat16", "direct masks", "Wiener filter", "overlap of 128 frames"],
    ),
    "stages": (
        ["{corpus}", *SMALL, "--stems", "vocals", "drums"],
        ["decode", "features", "separate", "evaluate"],
    ),
    "train_step": (
        ["{corpus}", "--work", "{work}", OURS, *SMALL, *PRODUCT, "--batches", "2", "--turns", "1"],
        ["stemforge float32", "stemforge mixed_bfloat16"],
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def places(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A corpus, one of a song alone, models of two stems, and a folder of features to share."""
    root = tmp_path_factory.mktemp("benchmarks")
    (root / "song" / "test").mkdir(parents=True)
    song = tiny_corpus / "test" / "Song 9.stem.mp4"
    (root / "song" / "test" / song.name).symlink_to(song)
    for seed, stem in enumerate(("vocals", "accompaniment")):
        built = unet.build(NET, [stem], seed=seed)
        (root / "models" / stem).mkdir(parents=True)
        model = unet.Model((stem,), NET, 4096, 1024, common.RATE_HZ, {}, built)
        unet.save_model(root / "models" / stem, model)
    return {"corpus": tiny_corpus, **{name: root / name for name in ("song", "models", "work")}}


@pytest.mark.system
@pytest.mark.parametrize("name", CASES)
def test_the_smallest_case_runs(
    name: str, places: dict[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    arguments, first_cells = CASES[name]
    main: Callable[[list[str]], None] = importlib.import_module(f"benchmarks.{name}").main
    main([argument.format(**places) for argument in arguments])
    said = capfd.readouterr().out
    table = [line.strip("| ").split(" | ") for line in said.splitlines() if line.startswith("|")]
    assert set(first_cells) <= {row[0] for row in table}
    if name == "bss_eval":  # museval's own scores
        (difference_db,) = re.findall(r"largest difference of a score: (\S+) dB", said)
        assert float(difference_db) < 1e-6


def test_every_benchmark_has_a_case() -> None:
    scripts = {
        path.stem
        for path in (ROOT / "benchmarks").glob("*.py")
        if 'if __name__ == "__main__"' in path.read_text(encoding="utf-8")
    }
    theirs = {name for name in scripts if name.startswith("spleeter_")}  # in Spleeter's environment
    assert scripts - theirs == set(CASES)


def test_documents_name_benchmarks_as_they_are_called() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    called = [
        name for page in pages
        for name in re.findall(r"\bbenchmarks[./](\w+)", page.read_text(encoding="utf-8"))
    ]  # fmt: skip
    assert set(called) == set(CASES)
    assert not any("python benchmarks/" in page.read_text(encoding="utf-8") for page in pages)


def test_the_full_size_net_is_the_presets() -> None:
    params = read_params(ROOT / "params.yaml").train
    preset = params.model_validate({**params.model_dump(), "preset": "spleeter"})
    ours = dataclasses.asdict(full_size.full_size())
    assert ours.pop("bins") == 1024
    assert ours == {name: getattr(preset, name) for name in ours}


def test_operations_are_those_of_keras_layers() -> None:
    convolution, transposed = keras.layers.Conv2D, keras.layers.Conv2DTranspose
    net = dataclasses.replace(NET, frames=128)
    layers: list[Any] = unet.build(net, ["vocals"]).layers
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


@pytest.mark.parametrize("name", ["train_step", "separate"])
def test_spleeter_is_not_compared_with_another_net(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["corpus"] if name == "train_step" else []
    with pytest.raises(SystemExit, match="2"):
        importlib.import_module(f"benchmarks.{name}").main([*arguments, "--width", "8"])
    assert "others only with --without-spleeter" in capsys.readouterr().err

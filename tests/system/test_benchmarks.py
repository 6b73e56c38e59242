"""Each benchmark runs on its smallest case, so that what docs/ cites can be measured again."""

import importlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import common
from stemforge.eval.exports import files as export
from stemforge.train.model import Model, save_model
from stemforge.train.model_files import tflite_name
from stemforge.train.nets.unet import UNet

pytestmark = pytest.mark.system
NET = UNet(256, 64, 2, 6, "affine", 0.0, "elu", "elu", "sigmoid", "linear")
SMALL = ["--frames", "64", "--width", "2"]
PRODUCT = ["--matrix", "64"]
OURS = "--without-spleeter"
# What follows a benchmark's name on the smallest command line, and first cells of its tables.
CASES: dict[str, tuple[list[str], list[str]]] = {
    "bss_eval": (["--seconds", "2", "--turns", "1"], ["museval", "stemforge"]),
    "distributed": (
        ["{corpus}", "--work", "{work}", *SMALL, "--turns", "1", "--steps", "2",
         "--cases", "two processes"],
        ["two processes", "GPUs of one machine"],
    ),
    "encodings": (["{song}"], ["float32", "float16", "uint8"]),
    "features": (
        ["{corpus}", OURS, "--runs", "1", "--copies", "1", "--minutes", "0.1"],
        ["(c) reading as int16, FFTs, writing alone", "1x"],
    ),
    "int8_layers": (["{models}", "{song}", "--turns", "1"], ["plain", "encoder_0", "mask"]),
    "live": (["{exports}", "{song}/test", "--docs", "{output}", "--frames", "64"], ["163", "813"]),
    "live_costs": (
        ["{exports}", "{song}/test/Song 9.stem.mp4", "--minutes", "0.01", "--seconds", "1"],
        ["2", "4"],
    ),
    "monitors": (
        ["{corpus}", "--work", "{work}", *SMALL, "--runs", "1"],
        ["tensorboard", "tensorboard, audio", "dvclive"],
    ),
    "net_costs": (
        ["--frames", "64", "--bins", "64", "--batch", "1", "--turns", "1", "--kinds", "blstm"],
        ["unet", "blstm"],
    ),
    "nets": ([*SMALL, *PRODUCT, "--turns", "1"], ["our operations", "at a matrix product's speed"]),
    "peers": (
        ["--without-peers", "--seconds", "1", "--turns", "1"],
        ["stemforge, LiteRT", "stemforge, LiteRT, --precision auto", "LiteRT float32"],
    ),
    "reader": (
        ["{corpus}", "--work", "{work}", OURS, "--frames", "64", "--batches", "2", "--runs", "1"],
        [f"stemforge{kind} of 4 stems, {state}" for state in ("cold", "warm") for kind in
         (", mixture and 4", ", mixture and 1", " from waveforms, augmented, mixture and 1")],
    ),
    "reading": (["{corpus}", "--copies", "1", "--turns", "1"], ["wav", "flac", "mp3", "m4a"]),
    "report": (
        ["{song}", "--songs", "2", "--seconds", "12", "--turns", "1"],
        ["index.html, MB", "all, MB", "to write it, s"],
    ),
    "rounding": (
        ["{song}", "--seconds", "1", "--kinds", "noise at -60 dB"],
        ["noise at -60 dB", "noise at -60 dB: SIR"],
    ),
    "scale": (
        ["--model", "{exports}", "--times", "1", "2", "--turns", "1", "--plot", "{output}.png"],
        ["separate a song", "separate songs", "features of songs", "training input",
         "score a track"],
    ),
    "separate": (
        [OURS, *SMALL, *PRODUCT, "--seconds", "1", "--turns", "1", "--ways", "TensorFlow float32",
         "LiteRT float32", "LiteRT int8-mixed"],
        ["TensorFlow float32", "LiteRT float32", "LiteRT int8-mixed"],
    ),
    "separation_quality": (
        ["{models}", "{song}", "--start", "0.5", "--seconds", "2"],
        ["float32", "bfloat16", "direct masks", "Wiener filter", "overlap of 128 frames"],
    ),
    "stages": (
        ["{corpus}", *SMALL, "--stems", "vocals", "drums"],
        ["decode", "features", "separate", "evaluate"],
    ),
    "songs": (
        ["--model", "{exports}", "--songs", "2", "--seconds", "1", "--turns", "1"],
        ["in process", "wav to wav", "mp3 to mp3"],
    ),
    "study": (
        ["{corpus}", "--work", "{work}", "--rows", "{rows}", "--output", "{output}"],
        ["Spleeter's preset", "another rate", "from waveforms"],
    ),
    "study_steps": (
        ["{corpus}", "--work", "{work}", "--rows", "{rows}", "--steps", "1", "--turns", "1",
         "--only", "Spleeter's preset", "from waveforms"],
        ["Spleeter's preset", "from waveforms"],
    ),
    "suite": (["{corpus}", "--only", "bss_eval"], ["museval", "stemforge"]),
    "train_step": (
        ["{corpus}", "--work", "{work}", OURS, *SMALL, *PRODUCT, "--batches", "2", "--turns", "1"],
        ["stemforge float32", "stemforge mixed_bfloat16"],
    ),
    "web": (
        ["{song}/test/Song 9.stem.mp4", "--model", "{exports}", "--seconds", "9", "--turns", "1"],
        ["several", "one"],
    ),
}  # fmt: skip

ROWS = """
stems: [vocals]
seeds: [1]
baselines: [Spleeter's preset]
base:
  net: {frames: 64, width: 2}
  steps: 2
  validate_every_steps: 2
  sdr_songs: 1
rows:
  - {row: Spleeter's preset, group: Rates}
  - {row: another rate, group: Rates, train: {learning_rate: 0.01}}
  - {row: from waveforms, group: Input, train: {input: waveforms, loss: snr}}
"""
MINUTES = {
    "distributed",
    "features",
    "peers",
    "separate",
    "stages",
    "study",
}  # they start many processes


@pytest.fixture(scope="module")
def places(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A corpus, one of a song alone, models of two stems, and a folder of features to share."""
    root = tmp_path_factory.mktemp("benchmarks")
    (root / "song" / "test").mkdir(parents=True)
    song = tiny_corpus / "test" / "Song 9.stem.mp4"
    (root / "song" / "test" / song.name).symlink_to(song)
    for seed, stem in enumerate(("vocals", "accompaniment")):
        built = NET.build([stem], seed=seed)
        (root / "models" / stem).mkdir(parents=True)
        model = Model((stem,), NET, 4096, 1024, common.RATE_HZ, {}, built)
        save_model(root / "models" / stem, model)
        (root / "exports" / stem).mkdir(parents=True)
        exported = root / "exports" / stem / tflite_name(stem, "float32")
        exported.write_bytes(export.to_tflite(model))
    (root / "rows").write_text(ROWS, encoding="utf-8")
    names = ("song", "models", "exports", "work", "rows", "output")
    return {"corpus": tiny_corpus, **{name: root / name for name in names}}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in MINUTES else ()) for n in CASES]
)
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

"""Separation of four stems against Spleeter, and against this machine's peak.

    python -m benchmarks.separate [--spleeter-python PYTHON | --without-spleeter]

Full-size nets of random weights (the same number of operations as trained ones) separate
noise, in one run, turn by turn: in process (loaded and warm: STFT, nets, masks, inverse
STFT) by TensorFlow in float32 and bfloat16, by LiteRT in float32 and with its inner layers in
int8, which `separate --precision auto` takes, and by Spleeter 2.4.2's own graph;
then as whole commands, from a WAV file to four, start-up included, with their peak memory.
Then the nets' floating-point operations as a share of what a large matrix product reaches.
Medians of the turns.
"""

import argparse
import functools
import math
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from benchmarks import common
from benchmarks.common import RATE_HZ, SPLEETER
from benchmarks.full_size import (
    add_matrix,
    add_net,
    forward_operations,
    matrix_product,
    net_of,
    product_operations,
    refuse_other_sizes,
)
from stemforge.eval.config import Precision, Runtime
from stemforge.features.corpus.sources import STEMS
from stemforge.train.config import TFLiteFormat
from stemforge.train.model import save_model
from stemforge.train.model_files import tflite_name
from stemforge.train.nets.unet import UNet

THIS = (sys.executable, "-m", "benchmarks.separate")
OURS: dict[str, tuple[Runtime, Precision, TFLiteFormat]] = {
    "TensorFlow float32": ("tensorflow", "float32", "float32"),
    "TensorFlow bfloat16": ("tensorflow", "bfloat16", "float32"),
    "LiteRT float32": ("litert", "float32", "float32"),
    "LiteRT int8-mixed": ("litert", "float32", "int8_mixed"),
}
FOLDERS: dict[Runtime, str] = {"tensorflow": "models", "litert": "exports"}
KINDS = ("float32", "bfloat16")
MOST_S = 600  # of noise in a process


def main(argv: list[str] | None = None) -> None:
    parser = common.parser_of(__doc__)
    common.add_spleeter(parser)
    add_net(parser)
    add_matrix(parser)
    parser.add_argument("--seconds", type=int, nargs="+", default=[60, 300], help="(60 300)")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument(
        "--ways", nargs="+", choices=OURS, default=list(OURS), metavar="WAY",
        help=f"of ours: {', '.join(OURS)} (all)",
    )  # fmt: skip
    arguments = parser.parse_args(argv)
    refuse_other_sizes(parser, arguments)
    if max(arguments.seconds) > MOST_S:
        parser.error(f"--seconds: {MOST_S} at most")
    net = net_of(arguments)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        common.measure([*THIS, "make", root, net.frames, net.width])
        python = common.spleeter_python(arguments, root / "environment")
        if python:
            common.measure([*common.spleeter_script(python, "separate"), "make", root / "spleeter"])
        print("in process:\n")
        compare_in_process(net, arguments, root, python)
        print("whole commands:\n")
        for seconds in arguments.seconds:
            compare_commands(seconds, arguments, root, python)


def compare_in_process(
    net: UNet, arguments: argparse.Namespace, root: Path, python: Path | None
) -> None:
    with ExitStack() as stack:
        servers: dict[str, Callable[[int], float]] = {}
        if python:
            script = common.spleeter_script(python, "separate")
            servers[SPLEETER] = stack.enter_context(
                common.server(*script, "serve", root / "spleeter")
            )
        for name in arguments.ways:
            ours = common.server(*THIS, "separate", name, root)
            servers[name] = stack.enter_context(ours)
        for kind in KINDS:
            product = common.server(*THIS, "multiply", kind, arguments.matrix)
            servers[f"product {kind}"] = stack.enter_context(product)
        for run in servers.values():
            run(min(20, *arguments.seconds, MOST_S))  # caches, threads, memory
        for seconds in arguments.seconds:
            turns = {name: functools.partial(run, seconds) for name, run in servers.items()}
            found = common.turn_by_turn(turns, arguments.turns)
            report(net, seconds, found, arguments.matrix)


def report(net: UNet, seconds: int, found: dict[str, float], side: int) -> None:
    operations = len(STEMS) * parts(seconds, net.frames) * forward_operations(net)
    peaks = {kind: product_operations(side) / found.pop(f"product {kind}") for kind in KINDS}
    rows = []
    for name, value in found.items():
        peak = peaks["bfloat16" if "bfloat16" in name else "float32"]
        share = "" if "int8" in name else f"{operations / value / peak:.0%}"
        ratio = common.against(found.get(SPLEETER), value)
        rows.append((name, f"{value:.2f}", f"{seconds / value:.1f}", ratio, share))
    columns = (f"{seconds} s of audio", "seconds", "times real time", "against Spleeter",
               "of the peak")  # fmt: skip
    common.print_table(columns, rows)
    products = ", ".join(f"{kind} {peak / 1e9:.0f} GFLOP/s" for kind, peak in peaks.items())
    print(f"\nmatrix product of {side}: {products}\n", flush=True)


def compare_commands(
    seconds: int, arguments: argparse.Namespace, root: Path, python: Path | None
) -> None:
    song = root / f"{seconds}.wav"
    soundfile.write(song, noise(seconds), RATE_HZ)
    memory_mb: dict[str, float] = {}

    def turn(name: str, command: list[object], **variables: str) -> float:
        with tempfile.TemporaryDirectory() as out:
            value, memory_mb[name] = common.measure([*command, out], **variables)
        return value

    runs: dict[str, Callable[[], float]] = {}
    if python:
        spleeter: list[object] = [python, "-m", "spleeter", "separate", song, "-p",
                    root / "spleeter" / "configuration.json", "-o"]  # fmt: skip
        runs[SPLEETER] = functools.partial(
            turn, SPLEETER, spleeter, MODEL_PATH=str(root / "spleeter")
        )
    for name in arguments.ways:
        runtime, precision, tflite = OURS[name]
        ours = [sys.executable, "-m", "stemforge.pipelines.commands.main", "separate", song,
                "--model", root / FOLDERS[runtime], "--runtime", runtime, "--precision",
                precision if tflite == "float32" else "auto", "--output"]  # fmt: skip
        runs[name] = functools.partial(turn, name, ours)
    found = common.turn_by_turn(runs, arguments.turns)
    rows = []
    for name, value in found.items():
        ratio = common.against(found.get(SPLEETER), value)
        rows.append((name, f"{value:.2f}", ratio, f"{memory_mb[name]:.0f} MB"))
    columns = (f"{seconds} s of audio", "seconds", "against Spleeter", "peak memory")
    common.print_table(columns, rows)
    print(flush=True)


def noise(seconds: int) -> np.ndarray:
    """float32 [samples, channels]."""
    random = np.random.default_rng(0)
    return random.uniform(-0.3, 0.3, (RATE_HZ * seconds, 2)).astype(np.float32)


def parts(seconds: int, frames: int) -> int:
    """How many parts of this many frames a song has: 4096 zeros in front, a frame every 1024."""
    return math.ceil(math.ceil((4096 + seconds * RATE_HZ) / 1024) / frames)


# What the processes do that this one starts.


def serve(run: Callable[[int], int]) -> None:
    """Talks to `common.server`; `run` returns how often it did the work."""
    print("ready", flush=True)
    for line in sys.stdin:
        started = time.perf_counter()
        repeats = run(int(line))
        print((time.perf_counter() - started) / repeats, flush=True)


def multiply(kind: str, side: int) -> Callable[[int], int]:
    run = matrix_product(kind, side)
    return lambda _: run()


def make_models(root: Path, net: UNet) -> None:
    from stemforge import tensorflow

    tensorflow.start()
    from stemforge.eval.exports import files as export
    from stemforge.train.model import Model

    for number, stem in enumerate(STEMS):
        for folder in FOLDERS.values():
            (root / folder / stem).mkdir(parents=True)
        keras_model = net.build([stem], seed=number)
        made = Model((stem,), net, 4096, 1024, RATE_HZ, {}, keras_model)
        save_model(root / "models" / stem, made)
        file = export.to_tflite(made)
        for kind in ("float32", "int8_mixed"):
            written = export.shrink(file, kind, int8_layers=net.int8_layers())
            (root / "exports" / stem / tflite_name(stem, kind)).write_bytes(written)


def separation(way: str, root: Path) -> Callable[[int], int]:
    from stemforge import Separator, find_models

    runtime, precision, tflite = OURS[way]
    models = find_models(root / FOLDERS[runtime], runtime=runtime, tflite=tflite)
    separator = Separator.load(models, runtime=runtime, precision=precision)
    waveform = noise(MOST_S)

    def run(seconds: int) -> int:
        separator.separate(waveform[: RATE_HZ * seconds], sample_rate_hz=RATE_HZ)
        return 1

    return run


def process(what: str, *rest: Any) -> None:
    if what == "make":
        make_models(
            Path(rest[0]), net_of(argparse.Namespace(frames=int(rest[1]), width=int(rest[2])))
        )
    elif what == "separate":
        serve(separation(rest[0], Path(rest[1])))
    else:
        serve(multiply(rest[0], int(rest[1])))


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in ("make", "separate", "multiply"):
        process(*sys.argv[1:])
    else:
        main()

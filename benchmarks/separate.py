"""Separation of four stems against Spleeter, and against this machine's peak.

    python -m benchmarks.separate [--spleeter-python PYTHON] [--seconds 60 300] [--turns 5]

Full-size nets of random weights (the same number of operations as trained ones) separate
noise, in one run, turn by turn: in process (loaded and warm: STFT, nets, masks, inverse
STFT) by TensorFlow in float32 and bfloat16, by LiteRT, and by Spleeter 2.4.2's own graph;
then as whole commands, from a WAV file to four, start-up included, with their peak memory.
Then the nets' floating-point operations as a share of what a large matrix product reaches.
Medians of the turns.
"""

import argparse
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from benchmarks.features import ROOT, environment, make_spleeter
from stemforge.train.config import Net

STEMS = ("vocals", "drums", "bass", "other")
RATE_HZ = 44100
MATRIX = 4096
OURS = {
    "TensorFlow float32": ("tensorflow", "float32"),
    "TensorFlow bfloat16": ("tensorflow", "bfloat16"),
    "LiteRT float32": ("litert", "float32"),
}
SPLEETER = "Spleeter 2.4.2"


def main() -> None:
    if sys.argv[1:2] == ["serve"]:
        serve(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spleeter-python", type=Path, help="of an environment with Spleeter")
    parser.add_argument("--seconds", type=int, nargs="+", default=[60, 300])
    parser.add_argument("--turns", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        subprocess.run([sys.executable, "-m", "benchmarks.separate", "serve", "make", root],
                       check=True, env=quiet(), stderr=subprocess.DEVNULL)  # fmt: skip
        spleeter = arguments.spleeter_python or make_spleeter(root / "environment")
        script = [spleeter, ROOT / "benchmarks" / "spleeter_separate.py"]
        subprocess.run([*script, "make", root / "spleeter"], check=True, env=quiet(),
                       stderr=subprocess.DEVNULL)  # fmt: skip
        servers = {SPLEETER: server([*script, "serve", root / "spleeter"])}
        own = [sys.executable, "-m", "benchmarks.separate", "serve"]
        for name, (runtime, precision) in OURS.items():
            servers[name] = server([*own, runtime, precision, root])
        servers["matrix product float32"] = server([*own, "product", "float32"])
        servers["matrix product bfloat16"] = server([*own, "product", "bfloat16"])
        for run in servers.values():
            run(20)  # caches, threads, memory
        print("in process:\n")
        for seconds in arguments.seconds:
            compare(seconds, servers, arguments.turns)
        print("whole commands:\n")
        commands = {SPLEETER: spleeter_command(spleeter, root)}
        commands |= {name: our_command(root, *how) for name, how in OURS.items()}
        for seconds in arguments.seconds:
            noise = np.random.default_rng(0).uniform(-0.3, 0.3, (RATE_HZ * seconds, 2))
            soundfile.write(root / f"{seconds}.wav", noise, RATE_HZ)
            compare_commands(seconds, commands, arguments.turns)


def compare(seconds: int, servers: dict[str, Callable[[int], float]], turns: int) -> None:
    found = turn_by_turn({name: lambda r=run: r(seconds) for name, run in servers.items()}, turns)
    operations = len(STEMS) * parts(seconds) * forward_operations()
    peaks = {
        kind: 2 * MATRIX**3 / found[f"matrix product {kind}"] for kind in ("float32", "bfloat16")
    }
    print(f"| {seconds} s of audio | seconds | times real time | against Spleeter | of the peak |")
    print("| --- | --- | --- | --- | --- |")
    for name, value in found.items():
        if not name.startswith("matrix"):
            peak = peaks["bfloat16" if "bfloat16" in name else "float32"]
            share = f"{operations / value / peak:.0%}"
            ratio = f"{found[SPLEETER] / value:.2f}x"
            print(f"| {name} | {value:.2f} | {seconds / value:.1f} | {ratio} | {share} |")
    products = ", ".join(f"{kind} {peak / 1e9:.0f} GFLOP/s" for kind, peak in peaks.items())
    print(f"\nmatrix product of {MATRIX}: {products}\n", flush=True)


def compare_commands(
    seconds: int, commands: dict[str, Callable[[int], tuple[float, float]]], turns: int
) -> None:
    memory: dict[str, float] = {}

    def turn(name: str) -> float:
        value, memory[name] = commands[name](seconds)
        return value

    found = turn_by_turn({name: lambda n=name: turn(n) for name in commands}, turns)
    print(f"| {seconds} s of audio | seconds | against Spleeter | peak memory |")
    print("| --- | --- | --- | --- |")
    for name, value in found.items():
        print(f"| {name} | {value:.2f} | {found[SPLEETER] / value:.2f}x | "
              f"{memory[name]:.0f} MB |")  # fmt: skip
    print(flush=True)


def turn_by_turn(runs: dict[str, Callable[[], float]], turns: int) -> dict[str, float]:
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(turns):
        for name, run in runs.items():
            found[name].append(run())
    return {name: statistics.median(values) for name, values in found.items()}


def server(command: list[object]) -> Callable[[int], float]:
    """A process that does what a line on its standard input says, and answers with seconds."""
    process = subprocess.Popen(
        [*map(str, command)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=quiet(),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout
    assert stdout.readline() == "ready\n"

    def run(seconds: int) -> float:
        print(seconds, file=stdin, flush=True)
        return float(stdout.readline())

    return run


def serve(what: str, *rest: str) -> None:
    """Makes models, or is what `server` talks to."""
    if what == "make":
        make_models(Path(rest[0]))
        return
    run = product(rest[0]) if what == "product" else separation(what, *rest)
    print("ready", flush=True)
    for line in sys.stdin:
        started = time.perf_counter()
        repeats = run(int(line))
        print((time.perf_counter() - started) / repeats, flush=True)


def make_models(root: Path) -> None:
    import stemforge.pipelines.tensorflow_quietly  # noqa: F401  # isort: skip
    from stemforge.eval import export
    from stemforge.train import unet
    from stemforge.train.unet import Model

    for number, stem in enumerate(STEMS):
        model = unet.build(full_size(), [stem], seed=number)
        for folder in ("models", "exports"):
            (root / folder / stem).mkdir(parents=True)
        made = Model((stem,), full_size(), 4096, 1024, RATE_HZ, {}, model)
        unet.save_model(root / "models" / stem, made)
        name = export.tflite_name(stem, "float32")
        (root / "exports" / stem / name).write_bytes(export.to_tflite(made))


def full_size() -> Net:
    return Net(512, 1024, 16, 6, "affine", 0.0, "elu", "elu", "sigmoid")


def separation(runtime: str, precision: str, root: str) -> Callable[[int], int]:
    if runtime == "tensorflow":
        import stemforge.pipelines.tensorflow_quietly  # noqa: F401
    from stemforge.eval.litert import find_tflite
    from stemforge.eval.separation import Separator
    from stemforge.features.models import find_models

    if runtime == "tensorflow":
        folders = find_models(Path(root) / "models")
    else:
        folders = find_tflite(Path(root) / "exports")
    separator = Separator.load(folders, runtime=runtime, precision=precision)  # type: ignore[arg-type]
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, (RATE_HZ * 600, 2)).astype(np.float32)

    def run(seconds: int) -> int:
        separator.separate(noise[: RATE_HZ * seconds], sample_rate_hz=RATE_HZ)
        return 1

    return run


def product(kind: str) -> Callable[[int], int]:
    from stemforge.pipelines.tensorflow_quietly import tf

    a, b = (tf.cast(tf.random.normal((MATRIX, MATRIX)), kind) for _ in range(2))
    multiply = tf.function(tf.matmul)

    def run(_: int) -> int:
        for _ in range(3):
            multiply(a, b).numpy().item(0)
        return 3

    return run


def our_command(root: Path, runtime: str, precision: str) -> Callable[[int], tuple[float, float]]:
    def run(seconds: int) -> tuple[float, float]:
        models = root / ("models" if runtime == "tensorflow" else "exports")
        with tempfile.TemporaryDirectory() as out:
            return measure(
                [Path(sys.executable).with_name("stemforge"), "separate", root / f"{seconds}.wav",
                 "--model", models, "--output", out, "--runtime", runtime,
                 "--precision", precision],
                quiet(),
            )  # fmt: skip

    return run


def spleeter_command(python: Path, root: Path) -> Callable[[int], tuple[float, float]]:
    def run(seconds: int) -> tuple[float, float]:
        with tempfile.TemporaryDirectory() as out:
            return measure(
                [python, "-m", "spleeter", "separate", "-p",
                 root / "spleeter" / "configuration.json", "-o", out, root / f"{seconds}.wav"],
                quiet() | {"MODEL_PATH": str(root / "spleeter")},
            )  # fmt: skip

    return run


def measure(command: list[object], env: dict[str, str]) -> tuple[float, float]:
    """Seconds and peak memory in MB of a command."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [*map(str, command)], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return seconds, usage.ru_maxrss / 1e3


def quiet() -> dict[str, str]:
    return environment() | {"TF_CPP_MIN_LOG_LEVEL": "3"}


def parts(seconds: int) -> int:
    """How many parts of 512 frames a song has: 4096 zeros in front, a frame every 1024."""
    return math.ceil(math.ceil((4096 + seconds * RATE_HZ) / 1024) / 512)


def forward_operations() -> float:
    """Floating-point operations of one stem's convolutions on one part: 12.2e9."""
    net = full_size()
    filters = [net.width * 2**level for level in range(net.depth)]
    area = net.frames * net.bins
    total = area * 16 * 1 * 2  # the mask's
    for inputs, outputs in zip([2, *filters], filters, strict=False):
        area //= 4
        total += area * 25 * inputs * outputs
    inputs = filters[-1]
    for outputs in (*reversed(filters[:-1]), 1):  # transposed: every tap for every input
        total += area * 25 * inputs * outputs
        area, inputs = area * 4, 2 * outputs
    return 2.0 * total


if __name__ == "__main__":
    main()

"""Training steps of the full-size net against Spleeter's, and against this machine's peak.

    python -m benchmarks.train_step CORPUS_ROOT [--spleeter-python PYTHON]

In one run, turn by turn: steps of four stems with windows of 512 frames and 1024 bins,
input included, in batches of 2 and of 4, by (a) our trainer in float32 and in
mixed_bfloat16, which steps through one stem at a time (four times one stem's step, each
reading mixture and stem), and (b) Spleeter 2.4.2's train op, all stems at once. Then the
floating-point operations of the convolutions as a share of what a large matrix product
reaches. Medians of seven turns.
"""

import argparse
import dataclasses
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from stemforge.pipelines.tensorflow_quietly import tf  # isort: skip (before all that imports it)

import keras

from benchmarks.features import ROOT, decode, environment, make_spleeter, write_csv
from stemforge.features.feature_set import FeatureSet
from stemforge.pipelines.params import read_params
from stemforge.pipelines.train_stem import net_and_config
from stemforge.train import unet
from stemforge.train.config import Net, TrainConfig
from stemforge.train.dataset import Dataset
from stemforge.train.trainer import Trainer

STEMS = ("vocals", "drums", "bass", "other")
BATCHES, TURNS, STEPS = (2, 4), 7, 3
PRECISIONS: tuple[unet.Precision, ...] = ("float32", "mixed_bfloat16")
MATRIX = 4096


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path, help="folder of MUSDB18 stem files")
    parser.add_argument("--spleeter-python", type=Path, help="of an environment with Spleeter")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        songs = decode(arguments.corpus.resolve(), root / "project")
        command = [sys.executable, "-m", "stemforge.pipelines.compute_features"]
        subprocess.run(command, cwd=root / "project", check=True)
        features = FeatureSet.open(str(root / "project" / "data" / "features"))
        spleeter = arguments.spleeter_python or make_spleeter(root / "spleeter")
        csv = write_csv(songs, root)
        turns: dict[tuple[str, int], Callable[[], float]] = {}
        for batch in BATCHES:
            turns["Spleeter 2.4.2", batch] = spleeter_turn(spleeter, csv, root / "cache", batch)
            for precision in PRECISIONS:
                turns[f"stemforge {precision}", batch] = our_turn(features, precision, batch)
        turns |= {(f"matrix product {name}", 1): gemm(name) for name in ("float32", "bfloat16")}
        found: dict[tuple[str, int], list[float]] = {}
        for _ in range(TURNS):
            for key, turn in turns.items():
                found.setdefault(key, []).append(turn())
    report({key: statistics.median(values) for key, values in found.items()})


def report(seconds: dict[tuple[str, int], float]) -> None:
    peak = {
        name: 2 * MATRIX**3 / seconds[f"matrix product {dtype}", 1]
        for name, dtype in (("float32", "float32"), ("mixed_bfloat16", "bfloat16"))
    }
    print("\n| step of 4 stems | batch | seconds | against Spleeter | of the matrix product |")
    print("| --- | --- | --- | --- | --- |")
    for (name, batch), value in seconds.items():
        if name.startswith("matrix"):
            continue
        rate = len(STEMS) * batch * operations() / value
        share = f"{rate / peak[name.split()[1] if 'stemforge' in name else 'float32']:.0%}"
        ratio = seconds["Spleeter 2.4.2", batch] / value
        print(f"| {name} | {batch} | {value:.2f} | {ratio:.2f}x | {share} |")
    for name, value in peak.items():
        print(f"matrix product of {MATRIX}, {name}: {value / 1e9:.0f} GFLOP/s")


def full_size() -> tuple[Net, TrainConfig]:
    """What `train.preset: spleeter` means."""
    params = read_params(ROOT / "params.yaml").train
    train = params.model_validate({**params.model_dump(), "preset": "spleeter"})
    features = type("Features", (), {"bins": 1024})
    return net_and_config(train, features)  # type: ignore[arg-type]


def our_turn(features: FeatureSet, precision: unet.Precision, batch: int) -> Callable[[], float]:
    net, config = full_size()
    config = dataclasses.replace(config, precision=precision, batch_size=batch)
    trainer = Trainer(net, config, stems=STEMS[:1], work=Path(tempfile.mkdtemp()))
    dataset = Dataset(features, stems=STEMS[:1], window_frames=net.frames, batch_size=batch)
    batches = dataset.training(sampling="songs", seed=1, start_step=0, steps=10**6)
    for _ in range(2):
        float(trainer.train_step(*next(batches))[0])

    def turn() -> float:
        started = time.perf_counter()
        for _ in range(STEPS * len(STEMS)):
            float(trainer.train_step(*next(batches))[0])
        return (time.perf_counter() - started) / STEPS

    return turn


def spleeter_turn(python: Path, csv: Path, cache: Path, batch: int) -> Callable[[], float]:
    cache.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [python, ROOT / "benchmarks" / "spleeter_train.py", csv, cache, str(batch)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment() | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout
    assert stdout.readline() == "ready\n"

    def turn() -> float:
        print(STEPS, file=stdin, flush=True)
        return float(stdout.readline()) / STEPS

    return turn


def gemm(name: str) -> Callable[[], float]:
    a, b = (tf.cast(tf.random.normal((MATRIX, MATRIX)), name) for _ in range(2))
    product = tf.function(tf.matmul)
    product(a, b)

    def turn() -> float:
        started = time.perf_counter()
        for _ in range(STEPS):
            product(a, b).numpy().item(0)
        return (time.perf_counter() - started) / STEPS

    return turn


def operations() -> float:
    """Floating-point operations of one stem's step on one window: its convolutions' alone.

    Forward, gradient by weights, and gradient by inputs, which the first layer needs not.
    """
    model = unet.build(full_size()[0], STEMS[:1])
    total = 0.0
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2DTranspose | keras.layers.Conv2D):
            transposed = isinstance(layer, keras.layers.Conv2DTranspose)
            _, rows, columns, _ = (layer.input if transposed else layer.output).shape
            forward = 2.0 * rows * columns * layer.kernel.shape.num_elements()
            total += forward * (2 if layer.name == "encoder_0" else 3)
    return total


if __name__ == "__main__":
    main()

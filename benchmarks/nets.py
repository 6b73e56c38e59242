"""One full-size net on one part of a song, each way that it can be run.

    python -m benchmarks.nets

Milliseconds for 512 frames and 1024 bins, medians of 15 turns, all ways in each turn: Keras'
model called, and compiled; eval.inference's operations on TensorFlow; TFLite files of both on
LiteRT; and four nets side by side, a thread each, a quarter of what all take. Beside them what
the net's arithmetic would take at the speed of a large matrix product.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from stemforge.pipelines.tensorflow_quietly import tf  # isort: skip (before all that imports it)

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from benchmarks.separate import MATRIX, RATE_HZ, STEMS, forward_operations, full_size, product
from stemforge.eval import export
from stemforge.eval.inference import TensorFlowNets
from stemforge.eval.litert import LiteRTNets
from stemforge.pipelines.console import quiet_stderr
from stemforge.train import unet
from stemforge.train.unet import Model

TURNS = 15
BFLOAT16 = {"float32": "float32", "bfloat16": "mixed_bfloat16"}  # in Keras' words


def main() -> None:
    net = full_size()
    mixture = np.random.default_rng(0).exponential(size=(net.frames, net.bins, 2))
    mixture = mixture.astype(np.float32)
    ways: dict[tuple[str, str], Callable[[], object]] = {}
    for precision, policy in BFLOAT16.items():
        keras_model = unet.build(net, STEMS[:1], precision=policy)  # type: ignore[arg-type]
        compiled = tf.function(lambda x, m=keras_model: m(x, training=False), autograph=False)
        ways["Keras' model, called", precision] = lambda m=keras_model: np.asarray(
            m(mixture[None], training=False)[STEMS[0]]
        )
        ways["Keras' model, compiled", precision] = lambda c=compiled: np.asarray(
            c(mixture[None])[STEMS[0]]
        )
        models = [Model((s,), net, 4096, 1024, RATE_HZ, {}, unet.build(net, [s])) for s in STEMS]
        nets = [
            TensorFlowNets(m.interface, net, unet.weights(m.keras_model), precision=precision)  # type: ignore[arg-type]
            for m in models
        ]
        ways["our operations", precision] = lambda n=nets: n[0](mixture)
        ways["our operations, four nets side by side", precision] = side_by_side(nets, mixture)
    with tempfile.TemporaryDirectory() as folder, quiet_stderr():
        plain, ours = Path(folder) / "plain.tflite", Path(folder) / "ours.tflite"
        convert_as_it_stands(models[0], plain)
        ours.write_bytes(export.to_tflite(models[0]))
        interpreter = Interpreter(str(plain), num_threads=os.cpu_count())
        runner = interpreter.get_signature_runner()
        (name,) = runner.get_input_details()
        ways["Keras' model, compiled", "LiteRT"] = lambda: runner(**{name: mixture[None]})
        alone = LiteRTNets(ours, threads=os.cpu_count() or 1)
        ways["our operations", "LiteRT"] = lambda: alone(mixture)
        several = [LiteRTNets(ours, threads=1) for _ in STEMS]
        ways["our operations, four nets side by side", "LiteRT"] = side_by_side(several, mixture)
        found = measure(ways)
    columns = ("float32", "bfloat16", "LiteRT")
    print("| | TensorFlow float32 | TensorFlow bfloat16 | LiteRT float32 |")
    print("| --- | --- | --- | --- |")
    for row in dict.fromkeys(row for row, _ in ways):
        share = 1 / len(STEMS) if "four" in row else 1
        cells = [
            f"{found[row, c] * share * 1e3:.0f} ms" if (row, c) in found else "" for c in columns
        ]
        print(f"| {row} | {' | '.join(cells)} |")
    bounds = [f"{bound(kind) * 1e3:.0f} ms" for kind in ("float32", "bfloat16", "float32")]
    print(f"| at a matrix product's speed | {' | '.join(bounds)} |")


def side_by_side(nets: list, mixture: np.ndarray) -> Callable[[], object]:  # type: ignore[type-arg]
    threads = ThreadPoolExecutor(os.cpu_count())
    return lambda: list(threads.map(lambda net: net(mixture), nets))


def convert_as_it_stands(model: Model, path: Path) -> None:
    shape = (1, model.net.frames, model.net.bins, 2)
    module = tf.Module()
    module.weights = [variable.value for variable in model.keras_model.variables]
    run = tf.function(
        lambda mixture: model.keras_model(mixture, training=False),
        input_signature=[tf.TensorSpec(shape, name="mixture")],
    )
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures=run)
        path.write_bytes(tf.lite.TFLiteConverter.from_saved_model(folder).convert())


def measure(ways: dict[tuple[str, str], Callable[[], object]]) -> dict[tuple[str, str], float]:
    found: dict[tuple[str, str], list[float]] = {way: [] for way in ways}
    for turn in range(TURNS + 2):
        for way, run in ways.items():
            started = time.perf_counter()
            run()
            if turn >= 2:
                found[way].append(time.perf_counter() - started)
    return {way: statistics.median(values) for way, values in found.items()}


def bound(kind: str) -> float:
    run = product(kind)
    run(0)
    started = time.perf_counter()
    repeats = run(0)
    return (time.perf_counter() - started) / repeats * forward_operations() / (2 * MATRIX**3)


if __name__ == "__main__":
    main()

"""One full-size net on one part of a song, in each way that it can be run.

    python -m benchmarks.nets

Milliseconds for 512 frames and 1024 bins, medians of the turns, all ways in each: Keras'
model called, and compiled; eval.runtimes.tensorflow's operations on TensorFlow; TFLite files of
both on LiteRT; and four nets in parallel, a thread each (a quarter of their time). Also the time of
the net's arithmetic at the speed of a large matrix product.
"""

import functools
import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from benchmarks import common
from benchmarks.common import RATE_HZ
from benchmarks.full_size import (
    PRODUCTS,
    add_matrix,
    add_net,
    forward_operations,
    matrix_product,
    net_of,
    product_operations,
)
from stemforge.eval.config import Precision
from stemforge.eval.exports import files as export
from stemforge.eval.runtimes.litert import LiteRTNets
from stemforge.eval.runtimes.tensorflow import TensorFlowNets
from stemforge.features.corpus.sources import STEMS
from stemforge.quiet import quiet_stderr
from stemforge.train import config
from stemforge.train.model import Model, weights_of
from stemforge.train.nets.unet import UNet

RUNS = ("float32", "bfloat16", "LiteRT")  # columns
POLICIES: dict[Precision, config.Precision] = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
ALONE, SEVERAL = "our operations", "our operations, four nets side by side"
CALLED, COMPILED = "Keras' model, called", "Keras' model, compiled"
Ways = dict[tuple[str, str], Callable[[], object]]


def main(argv: list[str] | None = None) -> None:
    parser = common.parser_of(__doc__)
    add_net(parser)
    add_matrix(parser)
    parser.add_argument("--turns", type=int, default=15)
    arguments = parser.parse_args(argv)
    net = net_of(arguments)
    mixture = np.random.default_rng(0).exponential(size=(net.frames, net.bins, 2))
    mixture = mixture.astype(np.float32)
    models = [Model((s,), net, 4096, 1024, RATE_HZ, {}, net.build([s])) for s in STEMS]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as threads:
        ways: Ways = {}
        for precision in POLICIES:
            ways |= tensorflow_ways(models, precision, mixture, threads)
        with quiet_stderr():
            ways |= litert_ways(models[0], Path(folder), mixture, threads)
        runs = {way: functools.partial(common.timed, run) for way, run in ways.items()}
        found = common.turn_by_turn(runs, arguments.turns, warm_up=2)
    rows = []
    for name in dict.fromkeys(name for name, _ in ways):
        share = 1 / len(STEMS) if name == SEVERAL else 1
        cells = [
            f"{found[name, r] * share * 1e3:.0f} ms" if (name, r) in found else "" for r in RUNS
        ]
        rows.append((name, *cells))
    bounds = [bound(net, kind, arguments.matrix) for kind in ("float32", "bfloat16", "float32")]
    rows.append(("at a matrix product's speed", *(f"{value * 1e3:.0f} ms" for value in bounds)))
    columns = ("", "TensorFlow float32", "TensorFlow bfloat16", "LiteRT float32")
    common.print_table(columns, rows)


def tensorflow_ways(
    models: list[Model], precision: Precision, mixture: np.ndarray, threads: ThreadPoolExecutor
) -> Ways:
    net = models[0].net
    keras_model: Any = net.build(STEMS[:1], precision=POLICIES[precision])
    compiled: Any = tf.function(lambda x: keras_model(x, training=False), autograph=False)
    nets = [
        TensorFlowNets(m.interface, net, weights_of(m.keras_model), precision=precision)
        for m in models
    ]
    return {
        (CALLED, precision): lambda: np.asarray(
            keras_model(mixture[None], training=False)[STEMS[0]]
        ),
        (COMPILED, precision): lambda: np.asarray(compiled(mixture[None])[STEMS[0]]),
        (ALONE, precision): lambda: nets[0](mixture),
        (SEVERAL, precision): side_by_side(nets, mixture, threads),
    }


def litert_ways(
    model: Model, folder: Path, mixture: np.ndarray, threads: ThreadPoolExecutor
) -> Ways:
    plain, ours = folder / "plain.tflite", folder / "ours.tflite"
    convert_as_it_stands(model, plain)
    ours.write_bytes(export.to_tflite(model))
    alone = LiteRTNets(ours, threads=os.cpu_count() or 1)
    several = [LiteRTNets(ours, threads=1) for _ in STEMS]
    return {
        (COMPILED, "LiteRT"): functools.partial(
            run_tflite(plain, threads=os.cpu_count() or 1), mixture
        ),
        (ALONE, "LiteRT"): lambda: alone(mixture),
        (SEVERAL, "LiteRT"): side_by_side(several, mixture, threads),
    }


def side_by_side(
    nets: Sequence[Callable[[np.ndarray], object]],
    mixture: np.ndarray,
    threads: ThreadPoolExecutor,
) -> Callable[[], object]:
    return lambda: list(threads.map(lambda net: net(mixture), nets))


def run_tflite(path: Path, *, threads: int) -> Callable[[np.ndarray], object]:
    """A TFLite file of one input, without what our own runtime does around it."""
    runner = Interpreter(str(path), num_threads=threads).get_signature_runner()
    (name,) = runner.get_input_details()
    return lambda mixture: runner(**{name: mixture[None]})


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


def bound(net: UNet, kind: str, side: int) -> float:
    """Seconds that a net's arithmetic takes at the speed of a matrix product."""
    run = matrix_product(kind, side)
    run()
    return common.timed(run) / PRODUCTS * forward_operations(net) / product_operations(side)


if __name__ == "__main__":
    main()

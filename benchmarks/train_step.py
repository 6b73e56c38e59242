"""Training steps of the full-size net against Spleeter's, and against this machine's peak.

    python -m benchmarks.train_step CORPUS_ROOT [--spleeter-python PYTHON | --without-spleeter]

In one run, turn by turn: steps of four stems with windows of 512 frames and 1024 bins,
input included, in batches of 2 and of 4, by (a) our trainer in float32 and in
mixed_bfloat16, which steps through one stem at a time (four times one stem's step, each
reading mixture and stem), and (b) Spleeter 2.4.2's train op, all stems at once. Then the
floating-point operations of the convolutions as a share of what a large matrix product
reaches. Medians of the turns.
"""

import argparse
import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks import common
from benchmarks.common import SPLEETER
from benchmarks.full_size import (
    PRODUCTS,
    add_matrix,
    add_net,
    matrix_product,
    net_of,
    product_operations,
    refuse_other_sizes,
    step_operations,
    training_config,
)
from stemforge.features.corpus.sources import STEMS
from stemforge.features.shards.reading import FeatureSet
from stemforge.train.config import Precision
from stemforge.train.dataset import Dataset
from stemforge.train.nets.unet import UNet
from stemforge.train.trainer import Trainer

STEPS = 3  # in each turn
PRECISIONS: dict[Precision, str] = {"float32": "float32", "mixed_bfloat16": "bfloat16"}
Turns = dict[tuple[str, int], Callable[[], float]]


def main(argv: list[str] | None = None) -> None:
    parser = common.parser_of(__doc__)
    common.add_corpus(parser)
    common.add_work(parser)
    common.add_spleeter(parser)
    add_net(parser)
    add_matrix(parser)
    parser.add_argument("--batches", type=int, nargs="+", default=[2, 4], help="sizes (2 4)")
    parser.add_argument("--turns", type=int, default=7)
    arguments = parser.parse_args(argv)
    refuse_other_sizes(parser, arguments)
    net = net_of(arguments)
    with common.work_folder(arguments.work) as root, ExitStack() as servers:
        features = FeatureSet.open(str(common.make_features(arguments.corpus, root)))
        scratch = Path(servers.enter_context(tempfile.TemporaryDirectory()))
        turns: Turns = {}
        if python := common.spleeter_python(arguments, scratch / "spleeter"):
            csv = common.write_csv(common.songs_of(root), root)
            for batch in arguments.batches:
                theirs = spleeter_turn(python, csv, scratch / f"cache {batch}", batch)
                turns[SPLEETER, batch] = servers.enter_context(theirs)
        for batch in arguments.batches:
            for precision in PRECISIONS:
                name, work = f"stemforge {precision}", scratch / f"{precision} {batch}"
                turns[name, batch] = our_turn(net, features, precision, batch, work)
        for kind in PRECISIONS.values():
            turns[f"product {kind}", 1] = product_turn(kind, arguments.matrix)
        report(net, common.turn_by_turn(turns, arguments.turns), arguments)


def report(net: UNet, seconds: dict[tuple[str, int], float], arguments: argparse.Namespace) -> None:
    peak = {
        kind: product_operations(arguments.matrix) / seconds[f"product {kind}", 1]
        for kind in PRECISIONS.values()
    }
    rows = []
    for (name, batch), value in seconds.items():
        if name.startswith("product"):
            continue
        rate = len(STEMS) * batch * step_operations(net) / value
        share = rate / peak["bfloat16" if "bfloat16" in name else "float32"]
        ratio = common.against(seconds.get((SPLEETER, batch)), value)
        rows.append((name, batch, f"{value:.2f}", ratio, f"{share:.0%}"))
    columns = ("step of 4 stems", "batch", "seconds", "against Spleeter", "of the matrix product")
    common.print_table(columns, rows)
    for kind, value in peak.items():
        print(f"matrix product of {arguments.matrix}, {kind}: {value / 1e9:.0f} GFLOP/s")


def our_turn(
    net: UNet, features: FeatureSet, precision: Precision, batch: int, work: Path
) -> Callable[[], float]:
    config = dataclasses.replace(training_config(), precision=precision, batch_size=batch)
    work.mkdir()
    trainer = Trainer(net, config, stems=STEMS[:1], work=work)
    dataset = Dataset(features, stems=STEMS[:1], window_frames=net.frames, batch_size=batch)
    batches = dataset.training(sampling="songs", seed=1, start_step=0, steps=config.steps)

    def steps(count: int) -> None:
        results = [trainer.step.train(next(batches)) for _ in range(count)]
        float(results[-1][0])  # waits for a device that runs ahead

    steps(2)
    return lambda: common.timed(lambda: steps(STEPS * len(STEMS))) / STEPS


@contextmanager
def spleeter_turn(
    python: Path, csv: Path, cache: Path, batch: int
) -> Iterator[Callable[[], float]]:
    cache.mkdir()
    script = common.spleeter_script(python, "train")
    with common.server(*script, csv, cache, batch) as run:
        yield lambda: run(STEPS) / STEPS


def product_turn(kind: str, side: int) -> Callable[[], float]:
    run = matrix_product(kind, side)
    run()
    return lambda: common.timed(run) / PRODUCTS


if __name__ == "__main__":
    main()

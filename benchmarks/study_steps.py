"""Time of a training step of the study's rows, with its reading, relative to the first of them.

    python -m benchmarks.study_steps CORPUS --work FOLDER [--only ROW ...]

Rows are those of benchmarks/study.yaml, one stem; batch norm and "all together" unless given. All
train in one process, some steps in each turn, one row after the other; medians of the turns.
"""

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path

from benchmarks import common
from benchmarks.study import prepare
from benchmarks.study_rows import ROWS, Run, read_runs
from stemforge.features.shards.reading import FeatureSet
from stemforge.pipelines.params import read_params
from stemforge.pipelines.paths import FEATURES
from stemforge.pipelines.running.training import net_and_config
from stemforge.train.dataset import Dataset
from stemforge.train.trainer import Trainer

USUAL = ("batch norm", "all together")
FAR = 10**6  # no step of it is reached


def main(argv: list[str] | None = None) -> None:
    parser = common.parser_of(__doc__)
    common.add_corpus(parser)
    common.add_work(parser)
    parser.add_argument("--only", nargs="+", metavar="ROW", default=USUAL)
    parser.add_argument("--rows", type=Path, default=ROWS, help="file of rows (%(default)s)")
    parser.add_argument("--steps", type=int, default=10, help="of a turn (%(default)s)")
    parser.add_argument("--turns", type=int, default=7)
    arguments = parser.parse_args(argv)
    with common.work_folder(arguments.work) as work:
        steps = {
            run.row: start(run, arguments, work) for run in first_runs(parser, arguments).values()
        }
        found = common.turn_by_turn(steps, arguments.turns, warm_up=1)
    first = found[arguments.only[0]]
    rows = [(row, f"{value:.3f}", f"{value / first:.2f}") for row, value in found.items()]
    common.print_table(("row", "seconds a step", "relative"), rows)


def first_runs(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> dict[str, Run]:
    """The first stem and seed of each row that was asked for, in that order."""
    runs: dict[str, Run] = {}
    for run in read_runs(arguments.rows):
        runs.setdefault(run.row, run)
    if unknown := sorted(set(arguments.only) - runs.keys()):
        parser.error(f"--only: no such row: {', '.join(unknown)}")
    return {row: runs[row] for row in arguments.only}


def start(run: Run, arguments: argparse.Namespace, work: Path) -> Callable[[], float]:
    """A row's training; each call does some steps and returns the seconds of one."""
    project = prepare(run, arguments.corpus, work)
    net, config = net_and_config(read_params(project / "params.yaml"))
    config = dataclasses.replace(
        config, steps=FAR, validate_every_steps=FAR, checkpoint_every_steps=FAR
    )
    trainer = Trainer(net, config, stems=(run.stem,), work=None)
    features = FeatureSet.open(str(project / FEATURES))
    dataset = Dataset(
        features,
        stems=(run.stem,),
        window_frames=net.frames,
        batch_size=config.batch_size,
        accumulate_steps=config.accumulate_steps,
        sound=common.sound_of(project, features) if config.input == "waveforms" else None,
        augmentation=config.augmentation,
    )
    loss = trainer.step.loss
    batches = dataset.training(
        sampling=config.sampling,
        seed=run.seed,
        start_step=0,
        steps=FAR,
        phases=loss.needs_phases,
        waveforms=loss.needs_waveforms,
    )

    def steps() -> None:
        results = [trainer.step.train(next(batches)) for _ in range(arguments.steps)]
        float(results[-1][0])  # waits for the device

    return lambda: common.timed(steps) / arguments.steps


if __name__ == "__main__":
    main()

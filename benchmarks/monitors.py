"""What monitoring a training run costs, per row of history, and a step of the full-size net.

    python -m benchmarks.monitors CORPUS_ROOT

Spleeter's net and batch (4 windows of 512 frames), one stem, two windows shown. Each switch
of params.yaml's monitor section alone; medians of the runs. Rows come every
train.log_every_steps, those with validation every train.validate_every_steps.
"""

import functools
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import common
from benchmarks.full_size import add_net, net_of, training_config
from stemforge.features.shards.reading import FeatureSet
from stemforge.pipelines.params import Monitor
from stemforge.pipelines.running.monitor import RunMonitor
from stemforge.train.dataset import Dataset
from stemforge.train.nets.unet import UNet
from stemforge.train.trainer import Report, Trainer

OFF: dict[str, Any] = {"tensorboard": False, "histograms": False, "images": False, "audio": False,
                       "windows": 2, "dvclive": False, "checkpoint_every_steps": 10**6,
                       "keep_best": 1, "export_every_steps": None}  # fmt: skip
SWITCHES = {
    "tensorboard": {"tensorboard": True},
    "tensorboard, images": {"tensorboard": True, "images": True},
    "tensorboard, audio": {"tensorboard": True, "audio": True},
    "tensorboard, histograms": {"tensorboard": True, "histograms": True},
    "dvclive": {"dvclive": True},
}


def main(argv: list[str] | None = None) -> None:
    parser = common.parser_of(__doc__)
    common.add_corpus(parser)
    common.add_work(parser)
    add_net(parser)
    parser.add_argument("--runs", type=int, default=5, help="of each (%(default)s)")
    arguments = parser.parse_args(argv)
    with common.work_folder(arguments.work) as root, tempfile.TemporaryDirectory() as scratch:
        features = FeatureSet.open(str(common.make_features(arguments.corpus, root)))
        compare(net_of(arguments), features, Path(scratch), arguments.runs)


def compare(net: UNet, features: FeatureSet, scratch: Path, runs: int) -> None:
    config = training_config()
    dataset = Dataset(
        features, stems=("vocals",), window_frames=net.frames, batch_size=config.batch_size
    )
    trainer = Trainer(net, config, stems=("vocals",), work=scratch)
    batch = next(dataset.training(sampling="songs", seed=1, start_step=0, steps=1))
    step_s = median(lambda: float(trainer.step.train(batch)[0]), runs)  # waits for the device
    print(f"\nstep of one stem: {step_s:.2f} s\n")
    rows = []
    for name, values in SWITCHES.items():
        milliseconds = []
        for valid_loss in (None, 1.0):
            place = scratch / "runs" / f"{name} {valid_loss}"
            with RunMonitor(trainer, dataset, Monitor(**OFF | values), place) as monitor:
                row = functools.partial(report, monitor, trainer, valid_loss)
                milliseconds.append(f"{median(row, runs) * 1e3:.0f}")
        rows.append((name, *milliseconds))
    common.print_table(("switched on", "a row, ms", "a row with validation, ms"), rows)


def report(monitor: RunMonitor, trainer: Trainer, valid_loss: float | None) -> None:
    trainer.state.step += 1
    row = {"step": trainer.state.step, "loss": 1.0, "valid_loss": valid_loss, "learning_rate": 1e-4}
    monitor.report(Report(trainer.state, trainer.state.step, 1.0, 1.0, 1e-4, 0.0, row))


def median(work: Callable[[], object], runs: int) -> float:
    """Seconds, without those of a first run."""
    return statistics.median([common.timed(work) for _ in range(1 + runs)][1:])


if __name__ == "__main__":
    main()

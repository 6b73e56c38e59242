"""What watching a training run costs, per row of history, beside a step of the full-size net.

    python -m benchmarks.monitors CORPUS_ROOT

Spleeter's net and batch (4 windows of 512 frames), one stem, two windows shown. Each switch
of params.yaml's monitor section alone; medians of five rows. Rows come every
train.log_every_steps, those with validation every train.validate_every_steps.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import stemforge.pipelines.tensorflow_quietly  # noqa: F401  # isort: skip (before all that imports it)

from ruamel.yaml import YAML

from benchmarks.features import decode
from benchmarks.train_step import full_size
from stemforge.features.feature_set import FeatureSet
from stemforge.pipelines.monitor import RunMonitor
from stemforge.pipelines.params import Monitor
from stemforge.train.dataset import Dataset
from stemforge.train.trainer import Report, Trainer

OFF = {"tensorboard": False, "histograms": False, "images": False, "audio": False,
       "windows": 2, "dvclive": False}  # fmt: skip
SWITCHES = {
    "tensorboard": {"tensorboard": True},
    "tensorboard, images": {"tensorboard": True, "images": True},
    "tensorboard, audio": {"tensorboard": True, "audio": True},
    "tensorboard, histograms": {"tensorboard": True, "histograms": True},
    "dvclive": {"dvclive": True},
}
RUNS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path, help="folder of MUSDB18 stem files")
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder)
        decode(parser.parse_args().corpus.resolve(), project)
        yaml = YAML()
        params = yaml.load((project / "params.yaml").read_text(encoding="utf-8"))
        params["features"]["mixture_phase"] = "int8"
        yaml.dump(params, project / "params.yaml")
        command = [sys.executable, "-m", "stemforge.pipelines.compute_features"]
        subprocess.run(command, cwd=project, check=True)
        net, config = full_size()
        features = FeatureSet.open(str(project / "data" / "features"))
        dataset = Dataset(
            features, stems=("vocals",), window_frames=net.frames, batch_size=config.batch_size
        )
        (project / "work").mkdir()
        trainer = Trainer(net, config, stems=("vocals",), work=project / "work")
        batch = next(dataset.training(sampling="songs", seed=1, start_step=0, steps=1))
        steps = [seconds(lambda: float(trainer.train_step(*batch)[0])) for _ in range(RUNS + 1)]
        print(f"\nstep of one stem: {statistics.median(steps[1:]):.2f} s\n")
        print("| switched on | a row, ms | a row with validation, ms |\n| --- | --- | --- |")
        for name, values in SWITCHES.items():
            found = []
            for valid_loss in (None, 1.0):
                place = project / "runs" / f"{name} {valid_loss}"
                with RunMonitor(trainer, dataset, Monitor(**OFF | values), place) as monitor:
                    found.append(cost(monitor, trainer, valid_loss))
            print(f"| {name} | {found[0] * 1e3:.0f} | {found[1] * 1e3:.0f} |")


def cost(monitor: RunMonitor, trainer: Trainer, valid_loss: float | None) -> float:
    taken = []
    for number in range(RUNS + 1):
        trainer.state.step = number
        row = {"step": number, "loss": 1.0, "valid_loss": valid_loss, "learning_rate": 1e-4}
        report = Report(trainer.state, 1.0, 1.0, 1e-4, 0.0, row)
        taken.append(seconds(lambda report=report: monitor.report(report)))  # type: ignore[misc]
    return statistics.median(taken[1:])


def seconds(work: object) -> float:
    started = time.perf_counter()
    work()  # type: ignore[operator]
    return time.perf_counter() - started


if __name__ == "__main__":
    main()

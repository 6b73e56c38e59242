"""Training processes that are killed, and end as if they had not been."""

import dataclasses
import itertools
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from stemforge.features.shards.reading import FeatureSet
from tests.conftest import ROOT
from tests.test_train_trainer import CONFIG, train

pytestmark = pytest.mark.system
SCRIPT = """
import sys
from pathlib import Path
from stemforge import tensorflow
tensorflow.start()
from stemforge.features.shards.reading import FeatureSet
from tests.system.test_train_kills import KILLED
from tests.test_train_trainer import dataset, make
trainer = make(Path(sys.argv[2]), KILLED)
trainer.fit(dataset(FeatureSet.open(sys.argv[1])),
            report=lambda report: print(report.state.step, flush=True))
"""
KILLED = dataclasses.replace(CONFIG, steps=80, checkpoint_every_steps=2, keep_best=3)
Moment = Callable[[int, Path], bool]  # of the steps done and the work folder


def run_until(features: FeatureSet, work: Path, moment: Moment) -> bool:
    """Runs a training process and kills it at a moment; returns whether it was in time."""
    work.mkdir(exist_ok=True)
    command = [sys.executable, "-c", SCRIPT, features.root, str(work)]
    steps = [0]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        stdout = process.stdout
        assert stdout is not None
        reader = threading.Thread(target=lambda: steps.extend(int(line) for line in stdout))
        reader.start()
        while process.poll() is None and not moment(steps[-1], work):
            time.sleep(0.0005)
        process.send_signal(signal.SIGKILL)
        reader.join()
    assert process.returncode in (0, -signal.SIGKILL)
    return process.returncode != 0


def in_a_checkpoint(after: int) -> Moment:
    """While a checkpoint is being written, after so many steps."""
    return lambda step, work: step >= after and any(work.glob(".checkpoint-*.tmp"))


def at_step(after: int) -> Moment:
    return lambda step, work: step >= after


def after_seconds(seconds: float) -> Moment:
    until = time.monotonic() + seconds
    return lambda step, work: time.monotonic() > until


def end(work: Path) -> tuple[str, dict[str, np.ndarray]]:
    """State and variables of the last checkpoint, and the best weights."""
    (checkpoint,) = work.glob("checkpoint-*")
    values: dict[str, np.ndarray] = {}
    for path in [checkpoint / "variables.npz", *work.glob("best-*.npz")]:
        with np.load(path) as stored:
            values |= {f"{path.name} {name}": stored[name] for name in stored.files}
    return (checkpoint / "state.json").read_text(), values


def assert_ends_as(features: FeatureSet, work: Path, whole: Path) -> None:
    """Lets a killed run end, and compares all that it leaves with an uninterrupted one's."""
    assert not run_until(features, work, lambda step, work: False)
    (state, values), (whole_state, whole_values) = end(work), end(whole)
    assert state == whole_state
    assert values.keys() == whole_values.keys()
    for name, value in values.items():
        np.testing.assert_array_equal(value, whole_values[name])


def test_a_killed_process_ends_as_an_uninterrupted_one(
    features: FeatureSet, tmp_path: Path, random: np.random.Generator
) -> None:
    train(features, tmp_path / "whole", KILLED)
    kills = [
        run_until(features, tmp_path / "killed", moment)
        for moment in (
            in_a_checkpoint(4),
            at_step(int(random.integers(8, 16))),
            in_a_checkpoint(20),
        )
    ]
    assert kills == [True, True, True]
    assert_ends_as(features, tmp_path / "killed", tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("draw", range(5))
def test_ten_kills_at_random_moments(features: FeatureSet, tmp_path: Path, draw: int) -> None:
    train(features, tmp_path / "whole", KILLED)

    def kill_five_times(number: int) -> int:
        work = tmp_path / str(number)
        draw = np.random.default_rng(number)
        kills = 0
        for step in sorted(draw.integers(1, 76, 5)):
            kind = draw.integers(3)
            if kind == 0:
                moment = after_seconds(float(draw.uniform(0, 8)))  # also while it starts
            else:
                moment = (in_a_checkpoint if kind == 1 else at_step)(int(step))
            kills += run_until(features, work, moment)
        assert_ends_as(features, work, tmp_path / "whole")
        shutil.rmtree(work)
        return kills

    kills = 0
    numbers = itertools.count(20261121 + 1000 * draw)
    with ThreadPoolExecutor(2) as pool:
        while kills < 10:
            kills += sum(pool.map(kill_five_times, itertools.islice(numbers, 2)))

"""Two replicas against one device, in processes of their own: devices are made before all else."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.projects import environment, make_project, set_params, stage

# Steps on the same batches by one device and by two; argv: folder, clip_norm or "none".
SCRIPT = """
import dataclasses, json, sys
from pathlib import Path
from pipelines.tensorflow_quietly import tf
import numpy as np
from tests.test_train_trainer import ADAM, CONFIG, NET
from train import unet
from train.trainer import Trainer

folder, clip = Path(sys.argv[1]), sys.argv[2]
optimization = dataclasses.replace(
    ADAM, ema_momentum=0.9, clip_norm=None if clip == "none" else float(clip)
)
config = dataclasses.replace(CONFIG, batch_size=4, optimization=optimization)
net = dataclasses.replace(NET, dropout=0.0)  # which draws other numbers on each replica
random = np.random.default_rng(0)
shape = (4, net.frames, net.bins, 2)
batches = [
    tuple(tf.constant(random.exponential(k, shape).astype(np.float32)) for k in (5.0, 2.0))
    for _ in range(5)
]
mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
for name, strategy in (("one", None), ("two", mirrored)):
    work = folder / name
    work.mkdir()
    trainer = Trainer(net, config, stems=("v",), work=work, strategy=strategy)
    values = {f"gradient {k}": np.asarray(v) for k, v in trainer.gradients(batches[0]).items()}
    values["steps"] = np.array([tuple(map(float, trainer.train_step(*b))) for b in batches])
    values |= {f"weight {k}": v for k, v in unet.weights(trainer.model).items()}
    with trainer.evaluating():
        values |= {f"average {k}": v for k, v in unet.weights(trainer.model).items()}
    np.savez(folder / f"{name}.npz", **values)
"""


@pytest.mark.parametrize("clip", ["none", "0.05"])
def test_two_replicas_step_as_one_device_does(tmp_path: Path, clip: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, tmp_path, clip],
        cwd=ROOT,
        env=environment(STEMFORGE_LOGICAL_CPUS="2"),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    one, two = (np.load(tmp_path / f"{name}.npz") for name in ("one", "two"))
    assert set(one.files) == set(two.files)
    for name in one.files:
        atol = 1e-5 if name.startswith("gradient") else 1e-4
        np.testing.assert_allclose(two[name], one[name], atol=atol, rtol=1e-5, err_msg=name)
    norms = one["steps"][:, 1]
    assert norms.min() > 0.05  # so that clipping does something


@pytest.fixture
def project(tmp_path: Path, tiny_corpus: Path) -> Path:
    root = make_project(tmp_path / "project", tiny_corpus)
    set_params(
        root,
        **{"train__steps": 6, "train__log_every_steps": 1, "train__validate_every_steps": 2},
        **{"train__checkpoint_every_steps": 2, "train__ema_momentum": 0.5},
    )
    stage(root, "compute_features")
    return root


def history(project: Path) -> list[str]:
    return (project / "models" / "drums" / "history.csv").read_text().splitlines()


def valid_losses(project: Path) -> list[float]:
    rows = [line.split(",") for line in history(project)[1:]]
    return [float(row[2]) for row in rows if row[2]]


def test_a_run_on_two_replicas_ends_where_one_device_does(project: Path) -> None:
    two = {"STEMFORGE_LOGICAL_CPUS": "2", "STEMFORGE_STRATEGY": "mirrored"}
    train = (project, "train_stem", "--stem", "drums")
    stage(*train)
    alone = valid_losses(project)
    assert len(alone) == 3
    for path in (project / ".work").glob("train-*"):
        path.rename(project / f"{path.name}-alone")
    # Four steps by two replicas, the last two by one device, from the same checkpoint.
    set_params(project, train__steps=4)
    done = stage(*train, **two)
    assert "train: 2 replicas: /device:CPU:0, /device:CPU:1" in done.stderr
    set_params(project, train__steps=6)
    stage(*train)
    np.testing.assert_allclose(valid_losses(project), alone, atol=1e-4)
    metrics = json.loads((project / "models" / "drums" / "metrics.json").read_text())
    assert metrics["best_step"] in (2, 4, 6)


def test_what_cannot_be_shared_is_refused(project: Path) -> None:
    train = (project, "train_stem", "--stem", "drums")
    three = {"STEMFORGE_LOGICAL_CPUS": "3"}
    done = stage(*train, "--strategy", "mirrored", code=2, **three)
    assert "train.batch_size=4: 3 replicas cannot share it equally" in done.stderr
    done = stage(*train, code=2, STEMFORGE_LOGICAL_CPUS="two")
    assert done.stderr == "stemforge: error: STEMFORGE_LOGICAL_CPUS=two: must be 1, 2, ...\n"
    done = stage(*train, code=2, STEMFORGE_STRATEGY="many")
    assert "STEMFORGE_STRATEGY=many: none of default, mirrored" in done.stderr

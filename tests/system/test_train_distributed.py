"""Two replicas against one device, in processes of their own: devices come before all else."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.conftest import ROOT
from tests.factories import set_params, untrained
from tests.processes import environment, stemforge
from tests.system.test_commands_train_cluster import LONG_S, tf_configs, train_cluster

pytestmark = pytest.mark.system
# Steps on the same batches, without and with clipping; argv: folder, strategy.
SCRIPT = """
import dataclasses, os, sys
from pathlib import Path
from stemforge import tensorflow
cpus = int(os.environ.get("STEMFORGE_LOGICAL_CPUS", 1))
tensorflow.start(logical_cpus=cpus, find_devices="TF_CONFIG" not in os.environ)
from stemforge.pipelines.running.strategies import make_cluster
import numpy as np
import tensorflow as tf
from tests.test_train_trainer import ADAM, CONFIG, NET
from stemforge.train.batch import Batch
from stemforge.train.model import weights_of
from stemforge.train.nets import read_net
from stemforge.train.trainer import Trainer

folder, cluster = Path(sys.argv[1]), make_cluster(sys.argv[2])
net = dataclasses.replace(NET, dropout=0.0)  # which draws other numbers on each replica
random = np.random.default_rng(0)
shape = (4, net.frames, net.bins, 2)
def parts():
    mixture, vocals = (random.exponential(s, shape).astype(np.float32) for s in (5.0, 2.0))
    return [Batch(share.of(mixture), {"v": share.of(vocals)}) for share, _ in cluster.places]
batches = [parts() for _ in range(5)]

def make(accumulate_steps=1, **optimization):
    optimization = dataclasses.replace(ADAM, ema_momentum=0.9, **optimization)
    config = dataclasses.replace(
        CONFIG, batch_size=4, accumulate_steps=accumulate_steps, optimization=optimization)
    work = folder / str(len(list(folder.iterdir()))) if cluster.is_chief else None
    if work:
        work.mkdir()
    return Trainer(net, config, stems=("v",), work=work, cluster=cluster)

descent = make(optimizer="sgd", learning_rate=1.0)  # moves by minus the gradient
values = {f"gradient {k}": v for k, v in weights_of(descent.model).items()}
descent.step.train(*batches[0])
values = {k: v - weights_of(descent.model)[k.split()[1]] for k, v in values.items()}
for clip in (None, 0.05):
    trainer = make(clip_norm=clip)
    values[f"steps {clip}"] = [np.asarray(trainer.step.train(*parts)) for parts in batches]
    values |= {f"weight {clip} {k}": v for k, v in weights_of(trainer.model).items()}
    with trainer.step.evaluating():
        values |= {f"average {clip} {k}": v for k, v in weights_of(trainer.model).items()}
pairs = [
    [tf.nest.map_structure(lambda a, b: np.concatenate([a, b]), one, other)
     for one, other in zip(*two, strict=True)]
    for two in (batches[:2], batches[2:4])]
trainer = make(accumulate_steps=2, optimizer="sgd", learning_rates={"*kernel": 0.5})
values["steps accumulated"] = [np.asarray(trainer.step.train(*parts)) for parts in pairs]
values |= {f"weight accumulated {k}": v for k, v in weights_of(trainer.model).items()}
vae = read_net({"kind": "unet_vae", "frames": 16, "bins": 64, "width": 2, "depth": 2, "layers": 1,
                "activation": "selu", "centre_scale": True, "hidden": 4, "dropout": 0.0,
                "mask": "sigmoid", "latent": 3})
config = dataclasses.replace(CONFIG, batch_size=4)
trainer = Trainer(vae, config, stems=("v",), work=None, cluster=cluster)
assert trainer.step.terms[0] == "kl"
values["kl"] = np.asarray(trainer.step.train(*batches[0]))[3]  # other terms depend on the noise
values["replicas"] = cluster.replicas
if cluster.is_chief:
    np.savez(folder / "values.npz", **values)
cluster.wait()
"""


def start(folder: Path, strategy: str, **variables: str) -> "subprocess.Popen[str]":
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, folder, strategy],
        cwd=ROOT,
        env=environment(TF_CPP_MIN_LOG_LEVEL="3", **variables),
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(*processes: "subprocess.Popen[str]") -> None:
    try:
        for process in processes:
            _, printed = process.communicate(timeout=LONG_S)
            assert process.returncode == 0, printed
    finally:
        for process in processes:
            process.kill()


def test_two_replicas_step_as_one_device_does(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("default", "mirrored", "multi_worker")]
    finish(start(folders[0], "default"))
    finish(start(folders[1], "mirrored", STEMFORGE_LOGICAL_CPUS="2"))
    finish(*(start(folders[2], "multi_worker", TF_CONFIG=config) for config in tf_configs(2)))
    one, *others = (np.load(folder / "values.npz") for folder in folders)
    assert one["steps None"][:, 1].min() > 0.05  # so that clipping does something
    assert one["replicas"] == 1
    assert one["kl"] > 0.01
    for two in others:
        assert two["replicas"] == 2
        assert set(one.files) == set(two.files)
        for name in set(one.files) - {"replicas"}:
            atol = 1e-5 if name.startswith("gradient") else 1e-4
            np.testing.assert_allclose(two[name], one[name], atol=atol, rtol=1e-5, err_msg=name)


TRAIN = ("train", "--stem", "drums")
MIRRORED: dict[str, Any] = {"STEMFORGE_LOGICAL_CPUS": "2", "STEMFORGE_STRATEGY": "mirrored"}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, tiny_project: Path) -> Path:
    """With features, parameters that touch all that replicas share, and a run on one device."""
    root = untrained(tiny_project, tmp_path_factory.mktemp("distributed") / "project")
    set_params(
        root,
        train__steps=12,
        train__log_every_steps=1,
        train__validate_every_steps=2,
        monitor__checkpoint_every_steps=2,
        train__net__norm="batch",
        train__net__dropout=0.0,
        train__optimizer="sgd",
        train__learning_rate=3.0,
        train__schedule="plateau",
        train__warmup_steps=2,
        train__plateau_factor=0.5,
        train__patience=1,
        train__max_plateaus=2,
        train__clip_norm=5.0,
        train__ema_momentum=0.5,
    )
    stemforge(root, *TRAIN)
    return root


@pytest.fixture
def project(original: Path, tmp_path: Path) -> Path:
    """The same, untrained."""
    return untrained(original, tmp_path / "project")


def history(project: Path) -> pd.DataFrame:
    return pd.read_csv(project / "models" / "drums" / "history.csv")


def tags(project: Path) -> set[str]:
    events = EventAccumulator(str(project / "runs" / "drums"), size_guidance={"tensors": 0})
    return set(events.Reload().Tags()["tensors"])


@pytest.mark.parametrize("strategy", ["mirrored", "workers"])
def test_a_run_by_two_ends_where_one_device_does(
    original: Path, project: Path, strategy: str
) -> None:
    alone = history(original)
    assert list(alone["learning_rate"]) == [1.5, 3.0, 3.0, 3.0, 1.5, 1.5]  # and early stopping
    # Four steps by two, the rest by one device, from the checkpoint of two.
    set_params(project, train__steps=4)
    if strategy == "mirrored":
        done = stemforge(project, *TRAIN, **MIRRORED)
        assert "train: 2 replicas: /device:CPU:0, /device:CPU:1" in done.stderr
    else:
        train_cluster(project)
    pd.testing.assert_frame_equal(history(project), alone[:4], check_exact=False, atol=1e-4)
    assert tags(project) == tags(original)
    set_params(project, train__steps=12)
    done = stemforge(project, *TRAIN)
    assert "train@drums: 4/12" in done.stderr
    pd.testing.assert_frame_equal(history(project), alone, check_exact=False, atol=1e-4)


def test_a_checkpoint_of_one_device_goes_on_with_two(original: Path, project: Path) -> None:
    set_params(project, train__steps=4)
    stemforge(project, *TRAIN)
    set_params(project, train__steps=12)
    train_cluster(project)
    pd.testing.assert_frame_equal(history(project), history(original), check_exact=False, atol=1e-4)


def test_what_cannot_be_shared_is_refused(project: Path) -> None:
    train = (project, *TRAIN)
    done = stemforge(*train, "--strategy", "mirrored", code=2, STEMFORGE_LOGICAL_CPUS="3")
    assert "train.batch_size=4: 3 replicas cannot share it equally" in done.stderr
    done = stemforge(*train, code=2, STEMFORGE_LOGICAL_CPUS="two")
    assert (
        done.stderr
        == "stemforge: error: STEMFORGE_LOGICAL_CPUS=two: must be a whole number from 1 on\n"
    )
    done = stemforge(*train, code=2, STEMFORGE_STRATEGY="many")
    assert "STEMFORGE_STRATEGY=many: not supported; supported: default, mirrored" in done.stderr

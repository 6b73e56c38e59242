"""Our training step against Spleeter's own graph, from the same weights and batches.

The golden file is written by golden/make_spleeter_training.py in Spleeter's environment.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks.full_size import spleeter_params
from stemforge.pipelines.running.training import net_and_config
from stemforge.train.batch import Batch
from stemforge.train.config import LossName, TrainConfig
from stemforge.train.losses import LOSSES
from stemforge.train.model import set_weights, weights_of
from stemforge.train.nets.unet import UNet
from stemforge.train.spleeter.configuration import HEADS, RATES, spleeter_preset
from stemforge.train.spleeter.configuration import LOSSES as LOSS_NAMES
from stemforge.train.spleeter.configuration import OPTIMIZERS as OPTIMIZER_NAMES
from stemforge.train.trainer import Trainer
from tests.conftest import ROOT
from tests.golden import spleeter_rules as rules

GOLDEN = ROOT / "tests" / "golden" / "spleeter-training.npz"


@pytest.fixture(scope="module")
def golden() -> Mapping[str, np.ndarray]:
    return dict(np.load(GOLDEN))


def preset() -> tuple[UNet, TrainConfig]:
    """What `train.preset: spleeter` means, at the golden file's size."""
    net, config = net_and_config(spleeter_params())
    assert isinstance(net, UNet)
    return dataclasses.replace(net, frames=rules.FRAMES, bins=rules.BINS), config


def batch(step: int, stems: Sequence[str]) -> Batch:
    return Batch(rules.batch("mix", step), {stem: rules.batch(stem, step) for stem in stems})


def make_trainer(stems: tuple[str, ...], variant: str, work: Path) -> Trainer:
    """A trainer with the preset's configuration and the rules' initial weights."""
    model, loss, optimizer = rules.VARIANTS[variant]
    net, config = preset()
    net = dataclasses.replace(net, head=HEADS[model])
    optimization = dataclasses.replace(
        config.optimization,
        optimizer=OPTIMIZER_NAMES[optimizer],
        learning_rate=rules.LEARNING_RATES[optimizer],
    )
    config = dataclasses.replace(config, loss={LOSS_NAMES[loss]: 1.0}, optimization=optimization)
    trainer = Trainer(net, config, stems=stems, work=work)
    values = {
        weight.path: rules.initial(rules.official(weight.path, stems), tuple(weight.shape))
        for weight in trainer.model.weights
    }
    set_weights(trainer.model, values)
    return trainer


@pytest.mark.parametrize("variant", rules.VARIANTS)
def test_three_steps_are_spleeters(
    variant: str, golden: Mapping[str, np.ndarray], tmp_path: Path
) -> None:
    # Spleeter minimises the sum of the stems' losses. Only a softmax ties its nets together.
    groups = [rules.STEMS] if variant == "softmax" else [(stem,) for stem in rules.STEMS]
    total, moved = np.zeros(rules.STEPS), 0.0
    for stems in groups:
        trainer = make_trainer(stems, variant, tmp_path)

        for path, gradient in trainer.step.gradients(batch(0, stems)).items():
            name = rules.official(path, stems)
            key = f"{variant} gradient {name}"
            if key in golden:
                found = rules.summary(name, np.asarray(gradient))
                np.testing.assert_allclose(found, golden[key], atol=1e-5, rtol=1e-5)
        for step in range(rules.STEPS):
            total[step] += float(trainer.step.train(batch(step, stems))[0])
        for number, variable in enumerate(trainer.model.trainable_variables):
            name = rules.official(variable.path, stems)
            found = rules.summary(name, np.asarray(variable))
            np.testing.assert_allclose(found, golden[f"{variant} weight {name}"], atol=1e-5)
            start = rules.summary(name, rules.initial(name, tuple(variable.shape)))
            if variant == "adadelta":  # moves by less than the tolerance: its averages tell
                optimizer = trainer.step.optimizer
                for slot, ours in (
                    ("accum", optimizer._accumulated_grads[number]),
                    ("accum_update", optimizer._accumulated_delta_vars[number]),
                ):
                    theirs = golden[f"{variant} {slot} {name}"]
                    found = rules.summary(name, np.asarray(ours))
                    scale = np.abs(theirs).max()
                    np.testing.assert_allclose(found, theirs, rtol=1e-3, atol=1e-5 * scale)
                    assert scale > 0
            moved = max(moved, float(np.abs(found - start).max()))
    truth = [float(golden[f"{variant} loss {step}"]) for step in range(rules.STEPS)]
    np.testing.assert_allclose(total, truth, rtol=1e-5)
    assert moved > (1e-7 if variant == "adadelta" else 1e-4)  # ten times the tolerance


def test_joint_training_is_separate_training(tmp_path: Path) -> None:
    joint = make_trainer(rules.STEMS, "adam", tmp_path)
    whole = joint.step.gradients(batch(0, rules.STEMS))
    for step in range(5):
        joint.step.train(batch(step, rules.STEMS))
    together = weights_of(joint.model)
    for stem in rules.STEMS:
        alone = make_trainer((stem,), "adam", tmp_path)
        for path, gradient in alone.step.gradients(batch(0, (stem,))).items():
            np.testing.assert_allclose(gradient, whole[f"{stem}_{path}"], atol=1e-6, rtol=1e-6)
        for step in range(5):
            alone.step.train(batch(step, (stem,)))
        for path, values in weights_of(alone.model).items():
            np.testing.assert_allclose(values, together[f"{stem}_{path}"], atol=1e-6)


def test_kernels_start_as_spleeters(golden: Mapping[str, np.ndarray]) -> None:
    model = preset()[0].build(["vocals"], seed=3)
    for weight in model.weights:
        if weight.path.endswith("kernel"):
            values = np.asarray(weight)
            largest, deviation = golden[f"adam initial {rules.official(weight.path, ('vocals',))}"]
            few = 3.0 / np.sqrt(values.size)
            assert np.abs(values).max() == pytest.approx(largest, rel=few)
            assert values.std() == pytest.approx(deviation, rel=few)


def loss(name: LossName, estimate: np.ndarray, target: np.ndarray) -> float:
    (term,) = LOSSES[name].terms(Batch(target, {"v": target}), {"v": estimate}).values()
    return float(term)


def test_weighted_l1_by_hand() -> None:
    target = np.zeros((2, 1, 1, 2), np.float32)
    target[1] = [[[2.0, 4.0]]]  # the first window is silent: its error weighs nothing
    estimate = target + np.array([[[[5.0, 5.0]]], [[[1.0, 0.0]]]], np.float32)
    assert loss("weighted_l1", estimate, target) == 3.0 * 1.0 / 4
    assert loss("l1", estimate, target) == 11.0 / 4


def test_the_preset_is_what_spleeters_configuration_says() -> None:
    net, config = preset()
    assert set(RATES) == {"adam", "sgd", "adadelta"}
    assert (net.width, net.depth, net.norm, net.dropout) == (16, 6, "affine", 0.0)
    assert (config.batch_size, config.sampling) == (4, "songs")
    assert (config.optimization.learning_rate, config.optimization.schedule) == (1e-4, "constant")
    assert spleeter_preset("adam")["net"]["frames"] == 512

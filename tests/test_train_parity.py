"""Our training step against Spleeter's own graph, from the same weights and batches.

The golden file is written by golden/make_spleeter_training.py in Spleeter's environment.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.conftest import ROOT
from tests.golden import spleeter_rules as rules
from train import unet
from train.losses import l1
from train.trainer import TrainConfig, Trainer

GOLDEN = ROOT / "tests" / "golden" / "spleeter-training.npz"
CONFIG = TrainConfig(
    sampling="songs",
    batch_size=rules.BATCH,
    steps=rules.STEPS,
    learning_rate=rules.LEARNING_RATE,
    seed=0,
    log_every_steps=1,
    validate_every_steps=1,
    validation_windows=1,
    checkpoint_every_steps=1,
)


@pytest.fixture(scope="module")
def golden() -> Mapping[str, np.ndarray]:
    return np.load(GOLDEN)


def official_names(number: int) -> dict[str, str]:
    """Name in the checkpoint of each of our weights of the stem with that number."""

    def name(layer: str, index: int) -> str:
        return f"{layer}_{index}" if index else layer

    names = {"mask": name("conv2d", 7 * number + 6)}
    for level in range(6):
        names[f"encoder_{level}"] = name("conv2d", 7 * number + level)
        names[f"decoder_{level}"] = name("conv2d_transpose", 6 * number + level)
        names[f"encoder_norm_{level}"] = name("batch_normalization", 12 * number + level)
        names[f"decoder_norm_{level}"] = name("batch_normalization", 12 * number + 6 + level)
    return names


def make_trainer(stem: str, work: Path) -> Trainer:
    """A trainer whose net has the rules' initial weights."""
    number = rules.STEMS.index(stem)
    net = unet.Net(rules.FRAMES, rules.BINS, 16, 6, "affine", 0.0, "elu", "elu")
    trainer = Trainer(net, CONFIG, stem=stem, work=work)
    names = official_names(number)
    values = {}
    for weight in trainer.model.weights:
        layer, part = weight.path.split("/")
        values[weight.path] = rules.initial(f"{names[layer]}/{part}", tuple(weight.shape))
    unet.set_weights(trainer.model, values)
    return trainer


@pytest.mark.parametrize("stem", rules.STEMS)
def test_three_steps_are_spleeters(
    stem: str, golden: Mapping[str, np.ndarray], tmp_path: Path
) -> None:
    number = rules.STEMS.index(stem)
    trainer = make_trainer(stem, tmp_path)
    names = official_names(number)

    mixture, target = rules.batch("mix", 0), rules.batch(stem, 0)
    with tf.GradientTape() as tape:
        loss = l1(trainer.model(mixture, training=True), target)
    variables = trainer.model.trainable_variables
    for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
        layer, part = variable.path.split("/")
        official = f"{names[layer]}/{part}"
        found = rules.summary(official, np.asarray(gradient))
        np.testing.assert_allclose(found, golden[f"gradient {official}"], atol=1e-5, rtol=1e-5)

    for step in range(rules.STEPS):
        loss = trainer._train_step(rules.batch("mix", step), rules.batch(stem, step))
        assert float(loss) == pytest.approx(golden[f"losses {step}"][number], rel=1e-5)
    for variable in variables:
        layer, part = variable.path.split("/")
        official = f"{names[layer]}/{part}"
        found = rules.summary(official, np.asarray(variable))
        np.testing.assert_allclose(found, golden[f"weight {official}"], atol=1e-5)
        start = rules.summary(official, rules.initial(official, tuple(variable.shape)))
        assert np.abs(found - start).max() > 1e-5  # it has moved, by more than the tolerance

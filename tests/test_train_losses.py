"""What a step minimises: terms by stem, their weights, and the net's own losses."""

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import tensorflow as tf

from stemforge.errors import Interrupted, UserError
from stemforge.features.shards.reading import FeatureSet
from stemforge.train.batch import Batch
from stemforge.train.config import LossName
from stemforge.train.dataset import Dataset
from stemforge.train.losses import LOSSES, Objective
from stemforge.train.losses.protocol import Estimates, Loss
from stemforge.train.trainer import Trainer, history_csv
from tests.factories import STEMS
from tests.test_train_trainer import CONFIG, NET, dataset, train
from tests.tiny_net import TinyNet

ONES = np.ones((1, 2, 2, 2), np.float32)


def test_terms_are_weighted_and_summed_with_the_nets_own_by_hand() -> None:
    batch = Batch(9 * ONES, {"a": 2 * ONES, "b": 5 * ONES})
    estimates = {"a": 3 * ONES, "b": ONES}  # off by 1 and by 4
    own = [tf.constant(10.0), tf.constant(1.0)]
    sums: dict[LossName, float] = {"l1": 1.0, "weighted_l1": 0.1}
    plain, weighted = Objective({"l1": 1.0}), Objective(sums)
    kl = Objective({**sums, "kl": 0.01})

    def total(objective: Objective, stems: dict[str, float] | None, own: list[Any]) -> float:
        values = objective.values(batch, estimates, stem_weights=stems, own=own)
        assert [*values] == [*objective.weights]
        return float(objective.total(values, own=own))

    assert total(plain, None, []) == 1 + 4
    assert total(plain, {"a": 3.0, "b": 0.5}, own) == 3 * 1 + 0.5 * 4 + 11
    # The weight of a window is its target's mean: 2 and 5.
    assert total(weighted, None, own) == pytest.approx(5 + 0.1 * (2 * 1 + 5 * 4) + 11)
    assert total(kl, None, own) == pytest.approx(5 + 0.1 * 22 + 0.01 * 11)


@dataclasses.dataclass(frozen=True)
class NetWithKl(TinyNet):
    """Names its penalty, as a net with a KL term does."""

    own_losses: ClassVar[frozenset[LossName]] = frozenset({"kl"})


def test_a_nets_own_loss_counts_in_training_alone(features: FeatureSet) -> None:
    plain, own = (
        Trainer(net(16, 64, 3, "relu", penalty), CONFIG, stems=("vocals",), work=None)
        for net, penalty in ((TinyNet, 0.0), (NetWithKl, 0.25))
    )
    (batch,) = dataset(features).training(sampling="windows", seed=1, start_step=0, steps=1)
    kernel, bias = own.model.get_layer("vocals_first").get_weights()
    first = tf.nn.relu(tf.nn.conv2d(batch.mixture, kernel, 1, "SAME") + bias)
    penalty = 0.25 * float(np.mean(np.square(first)))
    assert own.step.validation_loss(batch) == plain.step.validation_loss(batch)
    assert (plain.step.terms, own.step.terms) == ((), ("kl", "l1"))
    estimate = own.model(batch.mixture)["vocals"]
    distance = float(np.mean(np.abs(estimate - batch.stems["vocals"])))
    results = [np.asarray(trainer.step.train(batch)) for trainer in (plain, own)]
    losses = [float(result[0]) for result in results]
    np.testing.assert_allclose(results[1][3:], [penalty, distance], rtol=1e-4)
    assert len(results[0]) == 3
    assert penalty > 0.1
    assert losses[1] - losses[0] == pytest.approx(penalty, rel=1e-4)


def phase_terms(batch: Batch, estimates: Estimates) -> dict[str, Any]:
    """Of the estimate with the mixture's phase, real part against that of the truth."""
    return {
        stem: tf.reduce_mean(tf.abs((estimates[stem] - target) * tf.cos(batch.phases)))
        for stem, target in batch.stems.items()
    }


def test_a_loss_gets_the_phases_that_it_needs(
    features: FeatureSet, tiny_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_phases = FeatureSet.open(str(tiny_project / "data" / "features"))
    data = Dataset(with_phases, stems=STEMS, window_frames=16, batch_size=2)
    assert next(data.validation(max_windows=2)).phases is None
    batch = next(data.validation(max_windows=2, phases=True))
    reader = with_phases.reader("valid")
    for number, (run, start) in enumerate(data.validation_places(2)):
        np.testing.assert_array_equal(
            batch.phases[number], reader.read_phases([(run, start)], 16)[0]
        )
    monkeypatch.setitem(LOSSES, "l1", Loss(phase_terms, needs_phases=True))
    config = dataclasses.replace(CONFIG, steps=2)
    net = dataclasses.replace(NET, dropout=0.0)
    trainer = Trainer(net, config, stems=("vocals",), work=None)
    trainer.fit(Dataset(with_phases, stems=("vocals",), window_frames=16, batch_size=2))
    assert trainer.state.history[-1]["valid_loss"] > 0.0
    with pytest.raises(UserError, match=r"no phases in it: set features.mixture_phase=int8"):
        train(features, tmp_path / "work", config)


def test_a_sums_terms_are_in_each_row_also_after_a_stop(
    features: FeatureSet, tmp_path: Path
) -> None:
    config = dataclasses.replace(
        CONFIG, loss={"l1": 0.5, "mask": 3.0}, steps=4, log_every_steps=4, checkpoint_every_steps=2
    )
    net = TinyNet(16, 64, 3, "relu", 0.0)
    first = Trainer(net, config, stems=("vocals",), work=tmp_path)
    with pytest.raises(Interrupted):
        first.fit(dataset(features), should_stop=lambda: 15 if first.state.step == 3 else 0)
    again = Trainer(net, config, stems=("vocals",), work=tmp_path)
    assert again.state.step == 3
    again.fit(dataset(features))
    (row,) = again.state.history
    # A row has the means of all its steps, three of which the first trainer did.
    assert row["loss"] == pytest.approx(0.5 * row["terms"]["l1"] + 3.0 * row["terms"]["mask"])
    assert [*row["terms"]] == ["l1", "mask"]
    assert history_csv([row]).startswith("step,loss,valid_loss,learning_rate\n4,")

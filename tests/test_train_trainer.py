import dataclasses
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from features.errors import UserError
from features.feature_set import FeatureSet
from tests.features_factory import make_features
from train import unet
from train.dataset import training_batches, validation_batches
from train.losses import l1
from train.trainer import TrainConfig, Trainer, history_csv
from train.unet import Net

NET = Net(16, 64, 4, 3, "batch", 0.2, "elu", "elu")
CONFIG = TrainConfig(
    sampling="windows",
    batch_size=2,
    steps=24,
    learning_rate=1e-3,
    seed=1,
    log_every_steps=3,
    validate_every_steps=8,
    validation_windows=3,
    checkpoint_every_steps=4,
)


@pytest.fixture(scope="module")
def features(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> FeatureSet:
    return make_features(tiny_corpus, tmp_path_factory.mktemp("features"))


def train(features: FeatureSet, work: Path, config: TrainConfig = CONFIG) -> Trainer:
    work.mkdir(exist_ok=True)
    trainer = Trainer(NET, config, stem="vocals", work=work)
    trainer.fit(features, progress=lambda state, loss: None)
    return trainer


def test_l1_by_hand() -> None:
    assert float(l1(np.array([1.0, 5.0]), np.array([2.0, 2.0]))) == 2.0


def test_batches_are_a_function_of_the_step(features: FeatureSet) -> None:
    def batches(start: int, steps: int) -> list[tuple[np.ndarray, np.ndarray]]:
        found = training_batches(
            features,
            stem="drums",
            window_frames=16,
            batch_size=2,
            sampling="windows",
            seed=1,
            start_step=start,
            steps=steps,
        )
        return list(found)

    whole, late = batches(0, 9), batches(6, 9)
    assert len(whole) == 9
    for ours, theirs in zip(whole[6:], late, strict=True):
        np.testing.assert_array_equal(ours[0], theirs[0])
        np.testing.assert_array_equal(ours[1], theirs[1])


def test_validation_windows_do_not_overlap(features: FeatureSet) -> None:
    def count(most: int) -> int:
        found = validation_batches(
            features, stem="drums", window_frames=16, batch_size=4, max_windows=most
        )
        return sum(len(mixture) for mixture, _ in found)

    frames = features.info["splits"]["valid"]["frames_kept"]
    assert count(1000) == frames // 16
    assert count(3) == 3


def test_one_batch_can_be_overfitted(features: FeatureSet) -> None:
    mixture, target = next(
        training_batches(
            features,
            stem="vocals",
            window_frames=16,
            batch_size=1,
            sampling="windows",
            seed=1,
            start_step=0,
            steps=1,
        )
    )
    net = dataclasses.replace(NET, width=8, dropout=0.0)
    config = dataclasses.replace(CONFIG, learning_rate=3e-3)
    trainer = Trainer(net, config, stem="vocals", work=Path("unused"))
    losses = [float(trainer._train_step(mixture, target)) for _ in range(300)]
    # Far below the best that a net which ignores its input could do: one mask value everywhere.
    shares = np.linspace(0, 1, 101, dtype=np.float32)
    constant = min(float(l1(share * mixture, target)) for share in shares)
    assert losses[-1] < 0.2 * constant


def test_history_has_every_row_once_and_the_best_weights_are_returned(
    features: FeatureSet, tmp_path: Path
) -> None:
    trainer = train(features, tmp_path / "work")
    history = trainer.state.history
    assert [row["step"] for row in history] == [3, 6, 8, 9, 12, 15, 16, 18, 21, 24]
    validated = {r["step"]: r["valid_loss"] for r in history if r["valid_loss"] is not None}
    assert sorted(validated) == [8, 16, 24]
    best = min(validated, key=lambda step: validated[step])
    assert (trainer.state.best_step, trainer.state.best_loss) == (best, validated[best])
    assert trainer._validate(features) == pytest.approx(validated[best], rel=1e-6)
    text = history_csv(history).splitlines()
    assert text[0] == "step,loss,valid_loss"
    assert len(text) == 11


def test_a_stopped_run_ends_as_an_uninterrupted_one(features: FeatureSet, tmp_path: Path) -> None:
    whole = train(features, tmp_path / "whole")

    class Stop(Exception):
        pass

    def stop_at(step: int) -> None:
        def progress(state: object, loss: float) -> None:
            if state.step == step:  # type: ignore[attr-defined]
                raise Stop

        trainer = Trainer(NET, CONFIG, stem="vocals", work=tmp_path / "parts")
        with pytest.raises(Stop):
            trainer.fit(features, progress=progress)

    (tmp_path / "parts").mkdir()
    for step in (3, 10, 17, 23):
        stop_at(step)
    parts = train(features, tmp_path / "parts")
    assert parts.state.history == whole.state.history
    ours, theirs = unet.weights(parts.model), unet.weights(whole.model)
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


SCRIPT = """
import sys
from pathlib import Path
import pipelines.tensorflow_quietly
from features.feature_set import FeatureSet
from tests.test_train_trainer import CONFIG, NET
from train.trainer import Trainer
Trainer(NET, CONFIG, stem="vocals", work=Path(sys.argv[2])).fit(
    FeatureSet.open(sys.argv[1]),
    progress=lambda state, loss: print(state.step, flush=True),
)
"""


def test_a_killed_process_ends_as_an_uninterrupted_one(
    features: FeatureSet, tmp_path: Path
) -> None:
    whole = train(features, tmp_path / "whole")
    work = tmp_path / "killed"
    work.mkdir()
    command = [sys.executable, "-c", SCRIPT, str(features.root), str(work)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 11:
                time.sleep(0.01)
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    assert any(work.glob("checkpoint-*"))
    rest = train(features, work)
    assert rest.state.history == whole.state.history
    ours, theirs = unet.weights(rest.model), unet.weights(whole.model)
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_windows_longer_than_every_song(features: FeatureSet, tmp_path: Path) -> None:
    trainer = Trainer(dataclasses.replace(NET, frames=4096), CONFIG, stem="vocals", work=tmp_path)
    with pytest.raises(
        UserError, match=r"train.frames=4096: the longest stretch .* has \d+ frames"
    ):
        trainer.fit(features, progress=lambda state, loss: None)


def test_a_loss_that_is_not_finite_stops_the_run(features: FeatureSet, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, learning_rate=1e30)
    with pytest.raises(UserError, match=r"loss is (nan|inf) at step \d+: lower"):
        train(features, tmp_path / "work", config)

import dataclasses
import re
import resource
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stemforge.errors import Interrupted, UserError
from stemforge.features.shards.reading import FeatureSet, Place, SplitReader, StoredWindows
from stemforge.train.batch import Batch
from stemforge.train.config import Optimization, Precision, TrainConfig
from stemforge.train.dataset import WHOLE, Dataset, Share
from stemforge.train.losses.magnitudes import l1
from stemforge.train.model import set_weights, weights_of
from stemforge.train.nets.unet import Norm, UNet
from stemforge.train.trainer import Report, Trainer, best_row, history_csv

NET = UNet(16, 64, 4, 3, "batch", 0.2, "elu", "elu", "sigmoid", "linear")
ADAM = Optimization(
    optimizer="adam",
    learning_rate=1e-3,
    learning_rates=None,
    weight_decay=None,
    clip_norm=None,
    ema_momentum=None,
    schedule="constant",
    warmup_steps=0,
    cosine_end=None,
    plateau_factor=None,
    patience=None,
    min_improvement=0.0,
    max_plateaus=None,
)
CONFIG = TrainConfig(
    sampling="windows",
    batch_size=2,
    accumulate_steps=1,
    steps=24,
    input="features",
    augmentation=None,
    loss={"l1": 1.0},
    stem_weights=None,
    optimization=ADAM,
    precision="float32",
    seed=1,
    log_every_steps=3,
    validate_every_steps=8,
    validation_windows=3,
    checkpoint_every_steps=4,
    keep_best=1,
    select_by="valid_loss",
    sdr_songs=None,
)
SMALL = UNet(16, 64, 2, 2, "affine", 0.0, "elu", "elu", "sigmoid", "linear")
VOCALS = ("vocals",)


def dataset(features: FeatureSet, stems: tuple[str, ...] = VOCALS) -> Dataset:
    return Dataset(features, stems=stems, window_frames=16, batch_size=2)


def make(work: Path, config: TrainConfig = CONFIG, net: UNet = NET) -> Trainer:
    work.mkdir(exist_ok=True)
    return Trainer(net, config, stems=VOCALS, work=work)


def train(features: FeatureSet, work: Path, config: TrainConfig = CONFIG) -> Trainer:
    trainer = make(work, config)
    trainer.fit(dataset(features))
    return trainer


def assert_same(ours: Trainer, theirs: Trainer) -> None:
    assert ours.state == theirs.state
    for name, values in weights_of(ours.model).items():
        np.testing.assert_array_equal(values, weights_of(theirs.model)[name])


def optimization(**values: Any) -> TrainConfig:
    return dataclasses.replace(CONFIG, optimization=dataclasses.replace(ADAM, **values))


def test_l1_by_hand() -> None:
    assert float(l1(np.array([1.0, 5.0]), np.array([2.0, 2.0]))) == 2.0


def sources(batch: Batch) -> list[np.ndarray]:
    return [np.asarray(values) for values in (batch.mixture, *batch.stems.values())]


def test_batches_are_a_function_of_the_step(features: FeatureSet) -> None:
    def batches(start: int, steps: int) -> list[Batch]:
        found = dataset(features, ("drums", "vocals")).training(
            sampling="windows", seed=1, start_step=start, steps=steps
        )
        return list(found)

    whole, late = batches(0, 9), batches(6, 9)
    assert len(whole) == 9
    for ours, theirs in zip(whole[6:], late, strict=True):
        for one, other in zip(sources(ours), sources(theirs), strict=True):
            np.testing.assert_array_equal(one, other)


def test_workers_shares_make_the_whole_batch(features: FeatureSet) -> None:
    def batches(share: Share) -> list[list[np.ndarray]]:
        data = dataset(features)
        training = data.training(sampling="windows", seed=1, start_step=2, steps=4, share=share)
        return [*map(sources, training), *map(sources, data.validation(max_windows=3, share=share))]

    # Training: two of two windows. Validation: three windows in batches of two, or of one.
    whole, parts = batches(WHOLE), [batches(Share(n, 2)) for n in range(2)]
    assert [len(batch[0]) for batch in whole] == [2, 2, 2, 1]
    assert [[len(batch[0]) for batch in part] for part in parts] == [[1, 1, 1], [1, 1, 1, 1]]
    for step in range(2):
        for source in range(2):
            both = np.concatenate([part[step][source] for part in parts])
            np.testing.assert_array_equal(both, whole[step][source])
    for source in range(2):
        ours = np.concatenate([batch[source] for part in parts for batch in part[2:]])
        theirs = np.concatenate([batch[source] for batch in whole[2:]])
        np.testing.assert_array_equal(ours, theirs)


def test_float16_steps_as_float32_does_and_skips_what_overflows(
    features: FeatureSet, tmp_path: Path
) -> None:
    net = dataclasses.replace(NET, dropout=0.0)
    clipped = optimization(optimizer="sgd", learning_rate=0.1, clip_norm=0.5)
    exact, rough = (
        make(tmp_path / precision, dataclasses.replace(clipped, precision=precision), net)
        for precision in ("float32", "mixed_float16")
    )
    set_weights(rough.model, start := weights_of(exact.model))
    (batch,) = dataset(features).training(sampling="windows", seed=1, start_step=0, steps=1)
    found = [np.asarray(trainer.step.train(batch)) for trainer in (exact, rough)]
    np.testing.assert_allclose(found[1], found[0], rtol=0.02)
    assert found[0][1] > 0.5  # so that it clips
    moved = {name: values - start[name] for name, values in weights_of(exact.model).items()}
    after = weights_of(rough.model)
    for name, values in moved.items():
        close = 0.05 * float(np.abs(values).max()) + 1e-7
        np.testing.assert_allclose(after[name] - start[name], values, atol=close, err_msg=name)

    rough.step.optimizer.dynamic_scale.assign(2.0**60)  # float16 ends at 2**16
    _, norm, going = np.asarray(rough.step.train(batch))
    assert not np.isfinite(norm)
    assert going == 1
    assert float(rough.step.optimizer.dynamic_scale) == 2.0**59
    trained = {variable.path for variable in rough.model.trainable_variables}
    for name, values in weights_of(rough.model).items():
        if name in trained:  # not a norm's statistics
            np.testing.assert_array_equal(values, after[name])
    assert int(rough.step.optimizer.iterations) == 1


def test_batches_hold_what_the_features_hold(features: FeatureSet) -> None:
    data = dataset(features, ("drums", "vocals"))
    reader = features.reader("valid")
    (batch,) = data.validation(max_windows=2)
    for number, place in enumerate(data.validation_places(2)):
        for source, values in zip(("mixture", "drums", "vocals"), sources(batch), strict=True):
            np.testing.assert_array_equal(values[number], reader.read(source, *place, 16))


def test_a_late_start_opens_nothing_of_earlier_steps(
    features: FeatureSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []
    data = dataset(features)
    read = SplitReader.read_stored
    step_of = {
        tuple((run.track, run.first_frame, start) for run, start in places(data, step)): step
        for step in range(100_000, 100_006)
    }

    def watched(self: SplitReader, source: str, found: list[Place], frames: int) -> StoredWindows:
        opened.append(step_of[tuple((r.track, r.first_frame, s) for r, s in found)])
        return read(self, source, found, frames)

    monkeypatch.setattr(SplitReader, "read_stored", watched)
    batches = data.training(sampling="windows", seed=1, start_step=100_000, steps=100_006)
    assert sum(1 for _ in batches) == 6
    assert sorted(opened) == [step for step in range(100_000, 100_006) for _ in range(2)]


def places(data: Dataset, step: int) -> list[Place]:
    from stemforge.train.dataset import _places

    reader = data.features.reader("train")
    sampler = data._sampler(reader, "train", sampling="windows", seed=1)
    return _places(reader, sampler, step, data.batch_size)


def test_validation_windows_do_not_overlap(features: FeatureSet) -> None:
    def count(most: int) -> int:
        return sum(batch.windows for batch in dataset(features).validation(max_windows=most))

    frames = features.info["splits"]["valid"]["frames_kept"]
    assert count(1000) == frames // 16
    assert count(3) == 3


def test_one_batch_can_be_overfitted(features: FeatureSet, tmp_path: Path) -> None:
    batch = next(dataset(features).training(sampling="windows", seed=1, start_step=0, steps=1))
    net = dataclasses.replace(NET, width=8, dropout=0.0)
    trainer = make(tmp_path, optimization(learning_rate=3e-3), net)
    losses = [float(trainer.step.train(batch)[0]) for _ in range(300)]
    # Far below the best that a net which ignores its input could do: one mask value everywhere.
    mixture, target = sources(batch)
    shares = np.linspace(0, 1, 101, dtype=np.float32)
    constant = min(float(l1(share * mixture, target)) for share in shares)
    assert losses[-1] < 0.3 * constant


def test_history_has_every_row_once_and_the_best_weights_are_returned(
    features: FeatureSet, tmp_path: Path
) -> None:
    config = dataclasses.replace(CONFIG, keep_best=2)
    trainer = train(features, tmp_path / "work", config)
    history = trainer.state.history
    assert [row["step"] for row in history] == [3, 6, 8, 9, 12, 15, 16, 18, 21, 24]
    validated = {r["step"]: r["valid_loss"] for r in history if r["valid_loss"] is not None}
    assert sorted(validated) == [8, 16, 24]
    ranked = sorted((loss, step) for step, loss in validated.items())
    assert trainer.state.validations.best == tuple(ranked[:2])
    kept = sorted(path.name for path in (tmp_path / "work").iterdir())
    best = sorted(f"best-{step:09d}.npz" for _, step in ranked[:2])
    assert kept == [*best, "checkpoint-000000024"]
    assert trainer._validate(dataset(features))[0] == pytest.approx(ranked[0][0], rel=1e-6)
    text = history_csv(history).splitlines()
    assert text[0] == "step,loss,valid_loss,learning_rate"
    assert len(text) == 11


def test_a_stopped_run_ends_as_an_uninterrupted_one(features: FeatureSet, tmp_path: Path) -> None:
    config = dataclasses.replace(
        optimization(
            ema_momentum=0.9, clip_norm=0.5, schedule="plateau", plateau_factor=0.5, patience=1
        ),
        validate_every_steps=2,
    )
    whole = train(features, tmp_path / "whole", config)
    for stop in (3, 10, 23):
        trainer = make(tmp_path / "parts", config)

        def stop_at(step: int = stop, trainer: Trainer = trainer) -> int:
            return signal.SIGTERM if trainer.state.step == step else 0

        with pytest.raises(Interrupted, match=f"stopped at step {stop} of 24; the next run"):
            trainer.fit(dataset(features), should_stop=stop_at)
    assert_same(train(features, tmp_path / "parts", config), whole)


def test_a_finished_run_goes_on_with_more_steps(features: FeatureSet, tmp_path: Path) -> None:
    whole = train(features, tmp_path / "whole")
    train(features, tmp_path / "parts", dataclasses.replace(CONFIG, steps=16))
    assert_same(train(features, tmp_path / "parts"), whole)


def test_accumulated_steps_are_those_of_a_large_batch(features: FeatureSet, tmp_path: Path) -> None:
    """The same windows, in two batches of 2 and in one of 4."""
    base = dataclasses.replace(
        optimization(optimizer="sgd", learning_rate=0.1, clip_norm=0.5, ema_momentum=0.5),
        steps=3,
        validate_every_steps=3,
    )
    found = []
    for size, many in ((2, 2), (4, 1)):
        config = dataclasses.replace(base, batch_size=size, accumulate_steps=many)
        trainer = make(tmp_path / str(size), config, SMALL)
        data = Dataset(
            features, stems=VOCALS, window_frames=16, batch_size=size, accumulate_steps=many
        )
        trainer.fit(data)
        found.append((trainer, data.describe(1, sampling="windows", seed=1)))
    (ours, our_windows), (theirs, their_windows) = found
    assert our_windows == their_windows
    assert our_windows.count(" from ") == 4
    for one, other in zip(ours.state.history, theirs.state.history, strict=True):
        assert one == pytest.approx(other, rel=1e-5)
    for name, values in weights_of(ours.model).items():
        np.testing.assert_allclose(values, weights_of(theirs.model)[name], atol=1e-6, err_msg=name)


def test_accumulating_replicas_share_each_batch(features: FeatureSet) -> None:
    data = Dataset(features, stems=VOCALS, window_frames=16, batch_size=2, accumulate_steps=3)

    def mixtures(share: Share) -> np.ndarray:
        (batch,) = data.training(sampling="windows", seed=1, start_step=4, steps=5, share=share)
        return np.asarray(batch.mixture)

    whole = mixtures(WHOLE)
    assert len(whole) == 6
    for number in range(2):
        np.testing.assert_array_equal(mixtures(Share(number, 2)), whole[number::2])
    # One batch of six windows draws the same: draws 24 to 29.
    draws = Dataset(features, stems=VOCALS, window_frames=16, batch_size=6)
    (batch,) = draws.training(sampling="windows", seed=1, start_step=4, steps=5)
    np.testing.assert_array_equal(batch.mixture, whole)


def test_the_best_is_the_one_with_the_highest_sdr(features: FeatureSet, tmp_path: Path) -> None:
    """With SDRs that are given, of a run that is stopped in between and resumed."""
    config = dataclasses.replace(
        optimization(schedule="plateau", plateau_factor=0.5, patience=2, ema_momentum=0.5),
        steps=10, validate_every_steps=2, log_every_steps=1, select_by="valid_sdr", sdr_songs=1,
    )  # fmt: skip
    sdrs = {2: 1.0, 4: 3.0, 6: 2.0, 8: 2.5, 10: -1.0}
    seen: dict[int, dict[str, np.ndarray]] = {}

    def run(work: Path, stops: int) -> Trainer:
        trainer = make(work, config, SMALL)

        def measure() -> float:
            seen[trainer.state.step] = weights_of(trainer.model)  # the averages
            return sdrs[trainer.state.step]

        trainer.fit(
            dataset(features),
            should_stop=lambda: signal.SIGTERM if trainer.state.step == stops else 0,
            measure_sdr=measure,
        )
        return trainer

    whole = run(tmp_path / "whole", 0)
    with pytest.raises(Interrupted):
        run(tmp_path / "parts", 5)
    assert_same(run(tmp_path / "parts", 0), whole)

    rows = whole.state.history
    assert {r["step"]: r["valid_sdr"] for r in rows} == {n: sdrs.get(n) for n in range(1, 11)}
    text = history_csv(rows).splitlines()
    assert text[0] == "step,loss,valid_loss,learning_rate,valid_sdr"
    assert [line.rsplit(",", 1)[1] for line in text[1:5]] == ["nan", "1", "nan", "3"]
    assert best_row(whole.state)["step"] == 4
    for name, values in weights_of(whole.model).items():
        np.testing.assert_array_equal(values, seen[4][name])
    # After two validations below 3.0 the rate is halved.
    assert [row["learning_rate"] for row in rows] == [1e-3] * 8 + [5e-4] * 2


def test_an_sdr_that_is_not_finite_stops_the_run(features: FeatureSet, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, sdr_songs=1, validate_every_steps=1)
    trainer = make(tmp_path, config, SMALL)
    with pytest.raises(UserError, match="train@vocals: validation SDR is nan after step 0"):
        trainer.fit(dataset(features), measure_sdr=lambda: float("nan"))


def test_no_longest_stretch(features: FeatureSet, tmp_path: Path) -> None:
    data = Dataset(features, stems=VOCALS, window_frames=4096, batch_size=2)
    trainer = make(tmp_path, net=dataclasses.replace(NET, frames=4096))
    with pytest.raises(
        UserError, match=r"train.net.frames=4096: the longest run .* has \d+ frames"
    ):
        trainer.fit(data)


def test_a_loss_that_is_not_finite_names_its_windows(features: FeatureSet, tmp_path: Path) -> None:
    config = dataclasses.replace(optimization(learning_rate=1e30), checkpoint_every_steps=1)
    with pytest.raises(UserError) as caught:
        train(features, tmp_path / "work", config)
    text = str(caught.value)
    step = int(re.findall(r"after step (\d+)", text)[0])
    for run, start in places(dataset(features), step):
        assert f"{run.track!r} from {start * 1024 / 44100:.1f} s" in text
    # What is kept is good: no checkpoint holds what is not finite.
    for path in (tmp_path / "work").rglob("variables.npz"):
        with np.load(path) as values:
            assert all(np.isfinite(values[name]).all() for name in values.files)


class Poisoned(Dataset):
    """One training step's mixture is multiplied."""

    step, factor = 9, 0.0

    def training(self, **how: Any) -> Iterator[Batch]:
        for number, batch in enumerate(super().training(**how)):
            yield multiplied(batch, self.factor) if number == self.step else batch


def multiplied(batch: Batch, factor: float) -> Batch:
    return Batch(batch.mixture * factor, batch.stems)


@pytest.mark.parametrize(
    ("factor", "norm", "problem"),
    # 1e25: the loss is within float32's range, the squares of its gradients are not.
    [(np.inf, "batch", "loss is nan"), (1e25, "affine", "gradients' norm is inf")],
)
def test_what_is_not_finite_is_found_when_losses_are_collected(
    features: FeatureSet, tmp_path: Path, factor: float, norm: Norm, problem: str
) -> None:
    data = Poisoned(features, stems=VOCALS, window_frames=16, batch_size=2)
    data.factor = factor
    trainer = make(tmp_path, net=dataclasses.replace(NET, norm=norm))
    reports: list[tuple[int, int]] = []
    with pytest.raises(UserError) as caught:
        trainer.fit(data, report=lambda report: reports.append((report.state.step, report.done)))
    # Collected after the first step, at rows of history, validations and checkpoints.
    collected = (1, 1, 3, 4, 4, 6, 6, 8, 9, 9, 9)
    assert reports == list(enumerate(collected, 1))
    windows = ", ".join(
        f"{run.track!r} from {start * 1024 / 44100:.1f} s" for run, start in places(data, 9)
    )
    assert str(caught.value) == (
        f"train@vocals: {problem} after step 9, whose windows are {windows}: lower "
        "train.learning_rate or set train.clip_norm; the checkpoint of step 8 is kept"
    )
    assert [row["step"] for row in trainer.state.history] == [3, 6, 8, 9]
    (checkpoint,) = tmp_path.glob("checkpoint-*")
    with np.load(checkpoint / "variables.npz") as values:
        assert all(np.isfinite(values[name]).all() for name in values.files)


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_weights_stay_after_a_step_that_is_not_finite(
    features: FeatureSet, tmp_path: Path, precision: Precision
) -> None:
    config = dataclasses.replace(
        optimization(optimizer="sgd", learning_rate=0.1, ema_momentum=0.5), precision=precision
    )
    trainer = make(tmp_path, config)
    (batch,) = dataset(features).training(sampling="windows", seed=1, start_step=0, steps=1)

    def trained() -> list[np.ndarray]:  # norms' statistics are of their batches
        return [np.asarray(v).copy() for v in trainer.model.trainable_variables]

    start = trained()
    assert trainer.step.train(batch)[2] == 1
    before = trained()
    assert any(np.any(one != other) for one, other in zip(before, start, strict=True))
    for factor in (np.nan, 1.0):
        assert trainer.step.train(multiplied(batch, factor))[2] == 0
        for one, other in zip(trained(), before, strict=True):
            np.testing.assert_array_equal(one, other)
    with trainer.step.evaluating():
        assert all(np.isfinite(values).all() for values in trained())


def test_a_full_disk_keeps_the_last_checkpoint(features: FeatureSet, tmp_path: Path) -> None:
    trainer = make(tmp_path / "work")
    whole = train(features, tmp_path / "whole")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def fill(report: Report) -> None:
        if report.state.step == 9:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))

    try:
        with pytest.raises(UserError, match=r"cannot be written: .*; checkpoint-000000008 is kept"):
            trainer.fit(dataset(features), report=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    names = [path.name for path in (tmp_path / "work").iterdir()]
    assert sorted(names) == ["best-000000008.npz", "checkpoint-000000008"]
    assert_same(train(features, tmp_path / "work"), whole)


def test_a_checkpoint_of_another_net_is_refused(features: FeatureSet, tmp_path: Path) -> None:
    train(features, tmp_path / "work", dataclasses.replace(CONFIG, steps=4))
    with pytest.raises(UserError, match=r"checkpoint-000000004: the checkpoint is of another net"):
        make(tmp_path / "work", net=dataclasses.replace(NET, width=2))
    with pytest.raises(UserError, match="the checkpoint is of another net"):
        make(tmp_path / "work", optimization(optimizer="sgd"))


def test_a_damaged_record_stops_the_run(features: FeatureSet, tmp_path: Path) -> None:
    copy = tmp_path / "features"
    shutil.copytree(features.root, copy)
    for path in copy.glob("train/vocals-*"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(bytes(data))
    with pytest.raises(UserError, match=r"vocals-.*: record at byte \d+ is damaged"):
        train(FeatureSet.open(str(copy)), tmp_path / "work")


def test_plateaus_lower_the_rate_and_end_the_run(features: FeatureSet, tmp_path: Path) -> None:
    # A rate of almost nothing: after the first validation none is better by more than noise.
    config = dataclasses.replace(
        optimization(
            optimizer="sgd", learning_rate=1e-30, schedule="plateau", plateau_factor=0.1,
            patience=2, max_plateaus=2,
        ),
        validate_every_steps=2,
    )  # fmt: skip
    trainer = make(tmp_path, config, dataclasses.replace(NET, norm="affine", dropout=0.0))
    trainer.fit(dataset(features))
    rows = [row for row in trainer.state.history if row["valid_loss"] is not None]
    assert [row["step"] for row in rows] == [2, 4, 6, 8, 10]
    np.testing.assert_allclose([r["learning_rate"] for r in rows], [1e-30] * 3 + [1e-31] * 2)
    assert trainer.finished
    assert trainer.state.validations.best[0][1] == 2


def test_the_average_is_what_is_validated_and_returned(
    features: FeatureSet, tmp_path: Path
) -> None:
    momentum = 0.7
    config = dataclasses.replace(
        optimization(ema_momentum=momentum), steps=6, validate_every_steps=6
    )
    net = dataclasses.replace(NET, norm="affine", dropout=0.0)
    trainer = make(tmp_path, config, net)
    expected = {name: v.astype(np.float64) for name, v in weights_of(trainer.model).items()}
    seen: list[dict[str, np.ndarray]] = []
    trainer.fit(dataset(features), report=lambda _: seen.append(weights_of(trainer.model)))
    for weights in seen:
        expected = {n: momentum * expected[n] + (1 - momentum) * weights[n] for n in expected}
    for name, values in weights_of(trainer.model).items():
        np.testing.assert_allclose(values, expected[name], atol=1e-6)
        assert np.abs(values - seen[-1][name]).max() > 0


def test_the_waiting_share_is_one(features: FeatureSet, tmp_path: Path) -> None:
    shares: list[float] = []
    make(tmp_path).fit(dataset(features), report=lambda report: shares.append(report.waiting))
    assert all(0.0 <= share <= 1.0 for share in shares)

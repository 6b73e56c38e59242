"""Each loss against its formula in float64 NumPy, and what it says of silence."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
import pytest
import tensorflow as tf

from stemforge.eval.scoring import track_metrics
from stemforge.features.signal.framing import Framing
from stemforge.train.batch import Batch
from stemforge.train.config import KL, NEED_WAVEFORMS, LossName
from stemforge.train.losses import LOSSES
from stemforge.train.losses.magnitudes import FLOOR
from stemforge.train.losses.sound import SILENT_RMS

FRAMING = Framing(64, 16)
FRAMES, BINS = 140, 24  # 137 hops are under four frames each: more than 2048 samples
INNER = slice(48, -48)
Array = np.ndarray[Any, np.dtype[np.float64]]


def spectra(sounds: Array, size: int, hop: int) -> Array:
    """Complex [windows, frames, bins, channels], frame by frame."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    starts = range(0, sounds.shape[1] - size + 1, hop)
    frames = [np.fft.rfft(sounds[:, k : k + size] * window[:, None], axis=1) for k in starts]
    return np.stack(frames, axis=1)


def sounds(found: Array) -> Array:
    """The inverse of `spectra` with the framing's sizes; bins above are zero."""
    size, hop = FRAMING.length_samples, FRAMING.step_samples
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    out = np.zeros((len(found), FRAMING.span(found.shape[1]), found.shape[3]))
    for frame in range(found.shape[1]):
        part = np.fft.irfft(found[:, frame], n=size, axis=1) * window[:, None]
        out[:, frame * hop : frame * hop + size] += part / 1.5  # 3/8 times four frames
    return out


@dataclass(frozen=True)
class Case:
    """Windows of one stem in float64."""

    mixture: Array
    target: Array
    estimate: Array
    phases: Array
    sound: Array

    def heard(self) -> tuple[Array, Array]:
        true = spectra(self.sound, 64, 16)[:, :, :BINS]
        return sounds(self.estimate * np.exp(1j * self.phases))[:, INNER], sounds(true)[:, INNER]


def make_case(random: np.random.Generator, *, stem: float = 0.1, rest: float = 0.1) -> Case:
    """Noise of the given rms for the stem and for the rest, and a mask at random."""
    shape = (2, FRAMING.span(FRAMES), 2)
    sound, other = random.normal(0, 1, shape) * stem, random.normal(0, 1, shape) * rest
    both, own = (spectra(s, 64, 16)[:, :, :BINS] for s in (sound + other, sound))
    mask = random.uniform(0.1, 0.9, both.shape)
    return Case(np.abs(both), np.abs(own), mask * np.abs(both), np.angle(both), sound)


def value_and_gradient(name: LossName, case: Case) -> tuple[float, Array]:
    """Ours, in float32."""
    mixture, target, phases, sound = (
        tf.constant(part, tf.float32)
        for part in (case.mixture, case.target, case.phases, case.sound)
    )
    batch = Batch(mixture, {"v": target}, phases, {"v": sound}, FRAMING)
    estimate = tf.Variable(case.estimate, dtype=tf.float32)
    with tf.GradientTape() as tape:
        (term,) = LOSSES[name].terms(batch, {"v": estimate}).values()
    gradient = np.asarray(tape.gradient(term, estimate), np.float64)
    return float(term), gradient


def l1(c: Case) -> float:
    return np.abs(c.estimate - c.target).mean()


def weighted_l1(c: Case) -> float:
    windows = zip(c.estimate, c.target, strict=True)
    return float(np.mean([t.mean() * np.abs(e - t).mean() for e, t in windows]))


def l2(c: Case) -> float:
    return ((c.estimate - c.target) ** 2).mean()


def rmse(c: Case) -> float:
    errors = c.estimate - c.target
    return float(np.mean([np.sqrt((error**2).mean()) for error in errors]))


def log_l1(c: Case) -> float:
    return np.abs(np.log(c.estimate + 0.1) - np.log(c.target + 0.1)).mean()


def share(part: Array, mixture: Array) -> Array:
    """A mask; 0 where the mixture has no energy."""
    return np.where(mixture < 1e-3, 0.0, part / np.maximum(mixture, 1e-3))


def mask(c: Case) -> float:
    ideal = np.minimum(share(c.target, c.mixture), 1)
    return ((share(c.estimate, c.mixture) - ideal) ** 2).mean()


def component_2(c: Case) -> float:
    m, rest = share(c.estimate, c.mixture), c.mixture - c.target
    return (0.8 * (m * c.target - c.target) ** 2 + 0.2 * (m * rest) ** 2).mean()


def component_3(c: Case) -> float:
    found = []
    masks = share(c.estimate, c.mixture)
    for m, y, r in zip(masks, c.target, c.mixture - c.target, strict=True):
        added = 1e-4 * (r**2).mean() + 1e-6
        shape = m * r / np.sqrt(((m * r) ** 2).mean() + added)
        natural = r / np.sqrt((r**2).mean() + added)
        terms = 0.1 * (m * y - y) ** 2 + 0.1 * (m * r) ** 2 + 0.8 * (shape - natural) ** 2
        found.append(terms.mean())
    return float(np.mean(found))


def phase_sensitive(c: Case) -> float:
    true = spectra(c.sound, 64, 16)[:, :, :BINS]
    along = np.abs(true) * np.cos(np.angle(true) - c.phases)
    return np.abs(c.estimate - np.clip(along, 0, c.mixture)).mean()


def snr(c: Case) -> float:
    true = spectra(c.sound, 64, 16)[:, :, :BINS]
    found = c.estimate * np.exp(1j * c.phases)
    values = []
    for e, s in zip(found, true, strict=True):
        energy, floor = (np.abs(s) ** 2).sum(), s.size * 3 / 8 * 64 * 1e-6
        noise = (np.abs(e - s) ** 2).sum() + floor + energy / 1e4
        values.append(-10 * np.log10((energy + floor) / noise))
    return float(np.mean(values))


def si_sdr(c: Case) -> float:
    found = []
    for e, s in zip(*c.heard(), strict=True):
        part = (e * s).sum() / (s**2).sum() * s
        added = ((e**2).sum() + (s**2).sum()) / 1e4
        ratio = ((part**2).sum() + added) / (((part - e) ** 2).sum() + added)
        found.append(-10 * np.log10(ratio))
    return float(np.mean(found))


def multi_resolution_stft(c: Case) -> float:
    found = []
    for size in (512, 1024, 2048):
        squares = [np.abs(spectra(s, size, size // 4)) ** 2 for s in c.heard()]
        estimates, truths = (np.sqrt(s + 2 * (1e-4 * size / 4) ** 2) for s in squares)
        for e, s in zip(estimates, truths, strict=True):
            found.append(np.linalg.norm(s - e) / np.linalg.norm(s))
            found.append(np.abs(np.log(s / e)).mean())
    return float(np.sum(found)) / 2 / 3  # windows, resolutions


ORACLES: Mapping[LossName, Callable[[Case], float]] = {
    "l1": l1, "weighted_l1": weighted_l1, "l2": l2, "rmse": rmse, "log_l1": log_l1, "mask": mask,
    "component_2": component_2, "component_3": component_3, "phase_sensitive": phase_sensitive,
    "snr": snr, "si_sdr": si_sdr, "multi_resolution_stft": multi_resolution_stft,
}  # fmt: skip


def test_all_losses_are_here_and_say_what_they_need() -> None:
    assert [*ORACLES] == [*LOSSES] == [name for name in get_args(LossName) if name != KL]
    assert {name for name, loss in LOSSES.items() if loss.needs_waveforms} == NEED_WAVEFORMS
    assert all(LOSSES[name].needs_phases for name in NEED_WAVEFORMS)


@pytest.mark.parametrize("name", ORACLES)
def test_values_and_gradients_are_the_formulas(name: LossName, random: np.random.Generator) -> None:
    case = make_case(random)
    value, gradient = value_and_gradient(name, case)
    assert value == pytest.approx(ORACLES[name](case), rel=1e-4)
    # Finite differences of the formula, along directions at random.
    for _ in range(3):
        way = random.normal(size=case.estimate.shape) * case.estimate
        step = 1e-6
        ahead, behind = (
            ORACLES[name](replace(case, estimate=case.estimate + sign * step * way))
            for sign in (1, -1)
        )
        slope = (ahead - behind) / (2 * step)
        scale = float(np.linalg.norm(gradient) * np.linalg.norm(way))
        assert float((gradient * way).sum()) == pytest.approx(slope, rel=1e-3, abs=1e-5 * scale)


LOUD = {"stem": 0.1, "rest": 0.1}


@pytest.mark.parametrize("name", ORACLES)
def test_silence_gives_neither_nan_nor_a_gradient_that_explodes(
    name: LossName, random: np.random.Generator
) -> None:
    _, ordinary = value_and_gradient(name, make_case(random))
    for levels, factor in (
        ({"stem": 0.0, "rest": 0.0}, 1.0),
        ({"stem": 0.0, "rest": 0.1}, 1.0),
        ({"stem": 0.1, "rest": 0.0}, 1.0),
        ({"stem": 2 * SILENT_RMS, "rest": 0.1}, 1.0),
        (LOUD, 0.0),
        (LOUD, 1e-3),
        (LOUD, 1e-7),
    ):
        case = make_case(random, **levels)
        value, gradient = value_and_gradient(name, replace(case, estimate=factor * case.estimate))
        assert np.isfinite(value)
        assert np.linalg.norm(gradient) <= 500 * np.linalg.norm(ordinary)


def test_what_silent_windows_give(random: np.random.Generator) -> None:
    """A silent target asks for silence, except of weighted_l1 and si_sdr, which leave it out."""
    silent = make_case(random, stem=0.0)
    for name in ORACLES:
        value, gradient = value_and_gradient(name, silent)
        if name in ("weighted_l1", "si_sdr"):
            assert value == 0.0
            assert not gradient.any()
        else:
            assert value > 0.01
            assert (gradient * silent.estimate).sum() > 0.0
    for name in ORACLES:  # a bin of the mixture that is zero has the mask 0
        value, _ = value_and_gradient(name, make_case(random, stem=0.0, rest=0.0))
        assert value == pytest.approx(0.0, abs=1.01 * FLOOR)


@pytest.mark.parametrize("name", sorted(ORACLES.keys() - {"component_2", "component_3"}))
def test_a_perfect_estimate_is_the_minimum(name: LossName, random: np.random.Generator) -> None:
    case = make_case(random, rest=1e-6)  # so the mixture's phases are the stem's
    least, _ = value_and_gradient(name, replace(case, estimate=case.target))
    for size in (0.01, 0.1, 1.0):
        noise = random.uniform(1 - size, 1, case.target.shape)
        other, _ = value_and_gradient(name, replace(case, estimate=noise * case.target))
        assert other > least
    rms = SILENT_RMS / 0.1  # of silence, relative to the stem's
    lowest = {
        "rmse": FLOOR,
        "snr": -10 * np.log10((1 + rms**2) / (rms**2 + 1e-4)),
        "si_sdr": -10 * np.log10(1 / 2e-4),
    }.get(name, 0.0)
    assert least == pytest.approx(lowest, abs=0.05 if name == "snr" else 2e-3)


def test_the_best_mask_for_two_components_is_a_wiener_filters(random: np.random.Generator) -> None:
    case = make_case(random)
    kept, rest = 0.8 * case.target**2, 0.2 * (case.mixture - case.target) ** 2
    best = kept / (kept + rest)
    _, gradient = value_and_gradient("component_2", replace(case, estimate=best * case.mixture))
    _, elsewhere = value_and_gradient("component_2", case)
    assert np.linalg.norm(gradient) < 1e-5 * np.linalg.norm(elsewhere)


def test_si_sdr_is_the_metric_and_ignores_the_scale(random: np.random.Generator) -> None:
    case = make_case(random, rest=0.03)
    metric = [track_metrics.si_sdr(s, e) for e, s in zip(*case.heard(), strict=True)]
    for factor in (1.0, 0.5, 7.0):
        value, _ = value_and_gradient("si_sdr", replace(case, estimate=factor * case.estimate))
        assert value == pytest.approx(-np.mean(metric), abs=0.1)

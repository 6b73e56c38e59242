import dataclasses

import norbert
import numpy as np
import pandas as pd
import pytest
import scipy.signal

from stemforge.eval.config import ORACLES
from stemforge.eval.leaderboard.published import sisec18
from stemforge.eval.scoring.oracles import METHODS
from stemforge.eval.scoring.scores import MUSEVAL, score_track
from stemforge.pipelines.scoring.methods import Oracle, TrackTruth
from tests.conftest import RATE_HZ

MASKS = [name for name in METHODS if name not in ("UNPROCESSED", "MIX")]


def tones(*frequencies_hz: float) -> dict[str, np.ndarray]:
    t = np.arange(RATE_HZ)[:, None] / RATE_HZ
    waves = {f"{hz}": np.repeat(np.sin(2 * np.pi * hz * t), 2, axis=1) for hz in frequencies_hz}
    return {name: wave.astype(np.float32) for name, wave in waves.items()}


def noises(random: np.random.Generator, samples: int = RATE_HZ) -> dict[str, np.ndarray]:
    return {name: random.normal(size=(samples, 2)).astype(np.float32) for name in "abc"}


def spectrum(waveform: np.ndarray) -> np.ndarray:
    """[frames, bins, channels], as norbert takes it."""
    return np.moveaxis(
        scipy.signal.stft(waveform.T.astype(float), nperseg=2048)[-1], 0, -1
    ).swapaxes(0, 1)


def test_the_command_names_them_all() -> None:
    assert tuple(METHODS) == ORACLES  # twice, so that help need not load SciPy


def test_unprocessed_is_the_mixture(random: np.random.Generator) -> None:
    stems = noises(random)
    mixture = np.sum([*stems.values()], axis=0)
    estimates = METHODS["UNPROCESSED"](mixture, stems)
    assert list(estimates) == list(stems)
    assert all(estimate is mixture for estimate in estimates.values())


def sisec_mix() -> pd.Series:
    """The campaign's own ISR of its MIX, median over MUSDB18's tracks, in dB by target."""
    table = sisec18()
    return table[table["method"] == "MIX (SiSEC 2018)"].groupby("target")["ISR"].median()


def test_mix_has_the_isr_of_sisecs(random: np.random.Generator) -> None:
    """20 log10(n / (n - 1)) for a share of 1/n: theirs is a quarter, and 3/4 as accompaniment."""
    names = ("vocals", "drums", "bass", "other")
    stems = {name: random.normal(0, 0.1, (RATE_HZ, 2)).astype(np.float32) for name in names}
    mixture = np.sum([*stems.values()], axis=0)
    found = score_track(
        *("noise", stems, METHODS["MIX"](mixture, stems)),
        sample_rate_hz=RATE_HZ,
        scoring=dataclasses.replace(MUSEVAL, accompaniment=True),
    )
    assert list(found.frames) == ["drums", "bass", "other", "vocals", "accompaniment"]
    theirs = sisec_mix()
    for target, metrics in found.frames.items():
        share = 3 / 4 if target == "accompaniment" else 1 / 4
        exact = -20 * np.log10(1 - share)
        assert np.median(metrics["ISR"]) == pytest.approx(exact, abs=0.25)  # of one second
        # Stems of songs are correlated a little: 2.481 to 2.495 dB, and 12.007.
        assert theirs[target] == pytest.approx(exact, abs=0.04)


def test_the_unprocessed_mixture_is_the_accompaniment_once(random: np.random.Generator) -> None:
    """Its error is the vocals: not three mixtures, as a sum of the stems' estimates would be."""
    names = ("vocals", "drums", "bass", "other")
    stems = {name: random.normal(0, 0.1, (RATE_HZ, 2)).astype(np.float32) for name in names}
    mixture = np.sum([*stems.values()], axis=0)
    truth = TrackTruth(mixture, stems, RATE_HZ)
    made, _ = Oracle("UNPROCESSED", rests=("accompaniment",)).estimate(truth)
    assert list(made) == [*names, "accompaniment"]
    rest = mixture - stems["vocals"]
    snr = 10 * np.log10(np.sum(rest**2) / np.sum(stems["vocals"] ** 2))
    error = np.sum((rest - made["accompaniment"]) ** 2)
    assert 10 * np.log10(np.sum(rest**2) / error) == pytest.approx(snr, abs=1e-4)


def plainly(method: str, mixture: np.ndarray, stems: dict[str, np.ndarray]) -> list[np.ndarray]:
    """SiSEC's formulas on SciPy's spectra of whole signals."""
    alpha = int(method[-1])

    def transform(signal: np.ndarray) -> np.ndarray:
        return scipy.signal.stft(signal.T.astype(float), nperseg=2048)[-1]

    mixed, eps = transform(mixture), np.finfo(float).eps
    powers = np.stack([np.abs(transform(stem)) ** alpha for stem in stems.values()])
    if method.startswith("IRM"):
        masks = powers / (eps + powers.sum(axis=0))
    else:
        masks = powers / (eps + np.abs(mixed) ** alpha) >= 0.5
    return [scipy.signal.istft(mixed * mask)[1].T[: len(mixture)] for mask in masks]


@pytest.mark.parametrize("method", ["IRM1", "IRM2", "IBM1", "IBM2"])
@pytest.mark.parametrize("samples", [1, 1024, 65 * 1024, 130 * 1024 + 77])
def test_masks_by_parts_are_those_of_whole_signals(
    random: np.random.Generator, method: str, samples: int
) -> None:
    stems = noises(random, samples=max(samples, 2048))
    stems = {name: np.pad(stem[:samples], ((0, 4096), (0, 0))) for name, stem in stems.items()}
    mixture = np.sum([*stems.values()], axis=0)
    estimates = METHODS[method](mixture, stems)
    truths = plainly(method, mixture, stems)
    assert np.any(truths)  # a binary mask may leave nothing of one stem of a single sample
    for found, truth in zip(estimates.values(), truths, strict=True):
        assert np.sum((found - truth) ** 2) <= 1e-13 * np.sum(truth**2)  # of float32


@pytest.mark.parametrize("method", MASKS)
def test_what_is_apart_in_frequency_is_separated(method: str) -> None:
    stems = tones(200, 3000)
    estimates = METHODS[method](np.sum([*stems.values()], axis=0), stems)
    middle = slice(4096, -4096)
    for name, tone in stems.items():
        # A binary mask leaves what lies below half of the other tone's flanks.
        tolerance = 5e-3 if method.startswith("IBM") else 1e-3
        np.testing.assert_allclose(estimates[name][middle], tone[middle], atol=tolerance)


@pytest.mark.parametrize("method", MASKS)
def test_lengths_and_types(random: np.random.Generator, method: str) -> None:
    stems = noises(random, samples=5001)
    estimates = METHODS[method](np.sum([*stems.values()], axis=0), stems)
    assert list(estimates) == list(stems)
    for estimate in estimates.values():
        assert estimate.shape == (5001, 2)
        assert estimate.dtype == np.float32


@pytest.mark.parametrize("method", ["IRM1", "IRM2", "MWF"])
def test_estimates_add_up_to_the_mixture(random: np.random.Generator, method: str) -> None:
    stems = noises(random)
    mixture = np.sum([*stems.values()], axis=0)
    total = np.sum([*METHODS[method](mixture, stems).values()], axis=0)
    np.testing.assert_allclose(total, mixture, atol=1e-4)


@pytest.mark.parametrize("alpha", [1, 2])
def test_ratio_masks_are_norberts(random: np.random.Generator, alpha: int) -> None:
    stems = noises(random)
    mixture = np.sum([*stems.values()], axis=0)
    powers = np.stack([np.abs(spectrum(s)) ** alpha for s in stems.values()], axis=-1)
    masked = norbert.softmask(powers, spectrum(mixture))
    estimates = METHODS[f"IRM{alpha}"](mixture, stems)
    for number, estimate in enumerate(estimates.values()):
        channels = np.moveaxis(masked[..., number].swapaxes(0, 1), -1, 0)
        truth = scipy.signal.istft(channels, nperseg=2048)[1].T[: len(mixture)]
        np.testing.assert_allclose(estimate, truth, atol=1e-5)


def test_binary_masks_by_hand() -> None:
    """One bin's share of the mixture: 0.4 of its magnitude, and 0.6."""
    t = np.arange(RATE_HZ)[:, None] / RATE_HZ
    wave = np.repeat(np.sin(2 * np.pi * 1000 * t), 2, axis=1).astype(np.float32)
    stems = {"soft": 0.4 * wave, "loud": 0.6 * wave}
    for method, exact in (("IBM1", 1.0), ("IBM2", 0.0)):  # 0.6^2 is less than a half
        estimates = METHODS[method](wave, stems)
        middle = slice(4096, -4096)
        np.testing.assert_allclose(estimates["loud"][middle], exact * wave[middle], atol=1e-3)
        np.testing.assert_allclose(estimates["soft"][middle], 0, atol=1e-3)


def test_a_wiener_filter_tells_two_panned_sources_apart(random: np.random.Generator) -> None:
    """Two unknowns and two equations a bin: no mask of one channel could do that."""
    left, right = random.normal(size=(2, RATE_HZ, 1))
    stems = {
        "left": (left * [1.0, 0.3]).astype(np.float32),
        "right": (right * [0.4, 1.0]).astype(np.float32),
    }
    mixture = stems["left"] + stems["right"]
    for name, estimate in METHODS["MWF"](mixture, stems).items():
        error = np.linalg.norm(estimate - stems[name]) / np.linalg.norm(stems[name])
        assert error < 1e-3
        masked = METHODS["IRM2"](mixture, stems)[name]
        assert np.linalg.norm(masked - stems[name]) / np.linalg.norm(stems[name]) > 0.1

import norbert
import numpy as np
import pytest
import scipy.signal

from stemforge.eval.config import ORACLES
from stemforge.eval.scoring.oracles import METHODS
from tests.conftest import RATE_HZ

MASKS = [name for name in METHODS if name != "MIX"]


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


def test_mix_is_the_mixture(random: np.random.Generator) -> None:
    stems = noises(random)
    mixture = np.sum([*stems.values()], axis=0)
    estimates = METHODS["MIX"](mixture, stems)
    assert list(estimates) == list(stems)
    assert all(estimate is mixture for estimate in estimates.values())


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

"""norbert is the oracle, in double precision: in single its covariances are near singular."""

import norbert
import numpy as np
import pytest

from stemforge.eval.separation.filters import WienerFilter
from stemforge.eval.separation.wiener import EPSILON, wiener_filter
from stemforge.features.signal.framing import Framing
from stemforge.features.signal.stft import inverse_stft, stft
from tests.conftest import RATE_HZ
from tests.test_runtimes_tensorflow import NETS, trained
from tests.test_separation_separator import nets, separator_of


def norberts(estimates: np.ndarray, mixture: np.ndarray) -> np.ndarray:
    """[stems, frames, all bins, 2]; estimates are zero above their bins."""
    volumes = np.zeros((*mixture.shape, len(estimates)))
    volumes[:, : estimates.shape[2]] = np.moveaxis(estimates, 0, -1)
    found = norbert.wiener(volumes, mixture.astype(np.complex128), eps=EPSILON)
    return np.moveaxis(found, -1, 0)


def spectrum(random: np.random.Generator, *shape: int) -> np.ndarray:
    return (random.normal(size=shape) + 1j * random.normal(size=shape)).astype(np.complex64)


@pytest.mark.parametrize("stems", [2, 4])
@pytest.mark.parametrize("level", [1.0, 300.0])
@pytest.mark.parametrize("mono", [False, True])
def test_equals_norbert(random: np.random.Generator, stems: int, level: float, mono: bool) -> None:
    mixture = np.complex64(level) * spectrum(random, 40, 33, 2)
    estimates = (level * random.exponential(size=(stems, 40, 24, 2))).astype(np.float32)
    if mono:
        mixture[..., 1], estimates[..., 1] = mixture[..., 0], estimates[..., 0]
    truth = norberts(estimates, mixture)
    found = wiener_filter(estimates, mixture)
    assert found.dtype == np.complex64
    np.testing.assert_allclose(found, truth[:, :, :24], atol=1e-6 * level, rtol=1e-4)
    assert not truth[:, :, 24:].any()


def test_silence_stays_silent() -> None:
    found = wiener_filter(np.zeros((2, 3, 4, 2), np.float32), np.zeros((3, 5, 2), np.complex64))
    np.testing.assert_array_equal(found, 0)


def test_windows_lie_on_the_songs_grid(random: np.random.Generator) -> None:
    mixture = spectrum(random, 25, 9, 2)
    estimates = random.exponential(size=(3, 25, 8, 2)).astype(np.float32)
    window = WienerFilter([2, 0], window_frames=10)
    parts = []
    for start, end in ((0, 4), (4, 21), (21, 25)):
        parts += window.push(mixture[start:end], estimates[:, start:end])
    parts += window.finish()
    for place, stem in enumerate((2, 0)):
        found = np.concatenate([part[place]() for part in parts])
        truth = [norberts(estimates[:, n : n + 10], mixture[n : n + 10]) for n in (0, 10, 20)]
        np.testing.assert_allclose(found, np.concatenate([t[stem] for t in truth]), atol=1e-5)


def test_a_song_in_one_window_is_norberts(random: np.random.Generator) -> None:
    models = [trained(NETS["4stems"], (stem,), seed=n) for n, stem in enumerate("ab")]
    waveform = random.uniform(-1, 1, (28 * 1024, 2)).astype(np.float32)  # 32 frames
    framing = Framing(4096, 1024)
    mixture = stft(
        np.concatenate([np.zeros((4096, 2)), waveform, np.zeros((4096, 2))]).astype(np.float32),
        framing,
    )[:32]
    estimates = np.stack([nets(m)(np.abs(mixture[:, :64])).popitem()[1] for m in models])
    found = separator_of(models, mwf_window_frames=32).separate(waveform, sample_rate_hz=RATE_HZ)
    for stem, truth in zip("ab", norberts(estimates, mixture), strict=True):
        expected = inverse_stft(truth.astype(np.complex64), framing)[4096 : 4096 + len(waveform)]
        np.testing.assert_allclose(found[stem], expected, atol=1e-5)
        assert np.abs(expected).max() > 0.01

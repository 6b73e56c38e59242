"""Methods that know the true stems, and the mixture as estimate: references for any table.

MIX, IRM1, IRM2, IBM1 and IBM2 are those of SiSEC 2018 (Stöter, Liutkus, Ito, LVA/ICA 2018), as its
code defines them (sigsep/sigsep-mus-oracle): MIX a share of the mixture, IRM ideal ratio masks of
magnitudes and of energies, IBM ideal binary masks of the same. UNPROCESSED is not one of them.

Signals are taken a few seconds at a time, so that the estimates are all that an oracle needs
memory for.
"""

import functools
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import scipy.fft
import scipy.signal
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from stemforge.eval.config import UNPROCESSED
from stemforge.features.signal.stft import Waveform

# SiSEC 2018's oracles use frames of 2048 samples, half overlapped.
ORACLE_FRAME_SAMPLES = 2048
HOP = ORACLE_FRAME_SAMPLES // 2
HOPS_AT_ONCE = 64  # 1.5 s at 44.1 kHz: 2 MB a stereo spectrum
EPSILON = float(np.finfo(np.float64).eps)
BINARY_THRESHOLD = 0.5
Spectrum = NDArray[np.complex128]  # [channels, frames, bins]
Spectra = Mapping[str, Spectrum]
Stems = Mapping[str, Waveform]
Filter = Callable[[Spectrum, Spectra], Iterator[tuple[str, Spectrum]]]


def unprocessed_mixture(mixture: Waveform, stems: Stems) -> dict[str, Waveform]:
    """UNPROCESSED: each stem's estimate is the mixture as it is: the score of no separation.

    Args:
        mixture: float32 [samples, channels].
        stems: true stems; only their names count.
    """
    return dict.fromkeys(stems, mixture)


def share_of_mixture(mixture: Waveform, stems: Stems) -> dict[str, Waveform]:
    """MIX of SiSEC 2018: each stem's estimate is the mixture divided by the number of stems.

    SIR and SAR are those of UNPROCESSED, since they do not depend on the level. Where stems are
    uncorrelated, ISR is 20 log10(n / (n - 1)) for n stems: 2.4988 dB for four.

    Args:
        mixture: float32 [samples, channels].
        stems: true stems; their names and their number count.
    """
    return dict.fromkeys(stems, mixture / np.float32(len(stems)))


def ideal_ratio_mask(mixture: Waveform, stems: Stems, *, alpha: float) -> dict[str, Waveform]:
    """IRM: masks |S_k|^alpha / sum_j |S_j|^alpha from the true stems.

    Args:
        mixture: float32 [samples, channels].
        stems: true stems, the same shape.
        alpha: 1 or 2.

    Returns:
        float32 [samples, channels] per stem: the ceiling for methods that mask one channel
        at a time.
    """

    def mask(mixed: Spectrum, parts: Spectra) -> Iterator[tuple[str, Spectrum]]:
        powers = {name: np.abs(part) ** alpha for name, part in parts.items()}
        total = EPSILON + sum(powers.values())
        for name, power in powers.items():
            yield name, mixed * (power / total)

    return _separate(mixture, stems, mask)


def ideal_binary_mask(mixture: Waveform, stems: Stems, *, alpha: float) -> dict[str, Waveform]:
    """IBM: a bin is a stem's where |S_k|^alpha is at least half of |X|^alpha.

    Args:
        mixture: float32 [samples, channels].
        stems: true stems, the same shape.
        alpha: 1 or 2.

    Returns:
        float32 [samples, channels] per stem.
    """

    def mask(mixed: Spectrum, parts: Spectra) -> Iterator[tuple[str, Spectrum]]:
        bound = BINARY_THRESHOLD * (EPSILON + np.abs(mixed) ** alpha)
        for name, part in parts.items():
            yield name, mixed * (np.abs(part) ** alpha >= bound)

    return _separate(mixture, stems, mask)


def multichannel_wiener_filter(mixture: Waveform, stems: Stems) -> dict[str, Waveform]:
    """MWF: the filter v_k R_k (sum_j v_j R_j)^-1 of a local Gaussian model of the true stems.

    R_k, one matrix a bin, is the mean over time of S S^H / mean_c |S_c|^2, scaled to a trace
    of as many as there are channels; v_k = trace(R_k^-1 S S^H) / channels.

    Args:
        mixture: float32 [samples, channels].
        stems: true stems, the same shape.

    Returns:
        float32 [samples, channels] per stem: a ceiling for methods that use both channels.
    """
    channels = mixture.shape[1]
    covariances = {name: _spatial_covariance(waveform) for name, waveform in stems.items()}
    turns = {}
    for name, covariance in covariances.items():
        # R^-1 by its eigenvectors: for a source in the middle it is singular, apart from EPSILON.
        values, vectors = np.linalg.eigh(np.moveaxis(covariance, 2, 0))
        turns[name] = (1.0 / np.maximum(values.T, EPSILON), np.moveaxis(vectors, 0, 2).conj())

    def wiener(mixed: Spectrum, parts: Spectra) -> Iterator[tuple[str, Spectrum]]:
        powers = {}
        total = np.zeros((channels, channels, *mixed.shape[1:]), np.complex128)
        for name, part in parts.items():
            inverses, vectors = turns[name]
            turned = np.abs(np.einsum("ckb,ctb->ktb", vectors, part)) ** 2
            powers[name] = np.einsum("ktb,kb->tb", turned, inverses) / channels
            total += powers[name] * covariances[name][:, :, None]
        # C^-1 x, which all stems share; C is as singular where all sources are in the middle.
        loading = EPSILON * (1.0 + 8.0 * np.einsum("cctb->tb", total).real)
        total += np.eye(channels)[..., None, None] * loading
        white = np.linalg.solve(
            np.moveaxis(total, (0, 1), (2, 3)), mixed.transpose(1, 2, 0)[..., None]
        )
        white = np.ascontiguousarray(np.moveaxis(white[..., 0], 2, 0))
        for name, power in powers.items():
            yield name, power * np.einsum("cdb,dtb->ctb", covariances[name], white)

    return _separate(mixture, stems, wiener)


def _spatial_covariance(waveform: Waveform) -> NDArray[np.complex128]:
    """R of multichannel_wiener_filter, [channels, channels, bins]."""
    channels, frames = waveform.shape[1], _hops(waveform) + 1
    total = np.zeros((channels, channels, ORACLE_FRAME_SAMPLES // 2 + 1), np.complex128)
    for first in range(0, frames, HOPS_AT_ONCE):
        spectrum = _stft(waveform, first, min(HOPS_AT_ONCE, frames - first))
        power = EPSILON + np.mean(np.abs(spectrum) ** 2, axis=0)  # [frames, bins]
        total += np.einsum("ctb,dtb->cdb", spectrum / power, spectrum.conj())
    covariance = total / frames
    scaled: NDArray[np.complex128] = covariance * (
        channels / (EPSILON + np.einsum("ccb->b", covariance).real)
    )
    return scaled + EPSILON * np.eye(channels)[..., None]


def _separate(mixture: Waveform, stems: Stems, apply: Filter) -> dict[str, Waveform]:
    """Estimates from a filter of spectra, which gets a few frames of all signals at a time."""
    samples, channels = mixture.shape
    # Channel by channel, as the metrics read them.
    estimates = {name: np.empty((channels, samples), np.float32).T for name in stems}
    hops = _hops(mixture)
    for first in range(0, hops, HOPS_AT_ONCE):
        count = min(HOPS_AT_ONCE, hops - first)
        # The last frame is also the first one of the next round.
        mixed = _stft(mixture, first, count + 1)
        parts = {name: _stft(waveform, first, count + 1) for name, waveform in stems.items()}
        for name, found in apply(mixed, parts):
            place = estimates[name][first * HOP : (first + count) * HOP]
            place[:] = _istft(found)[: len(place)]
    return estimates


def _hops(waveform: Waveform) -> int:
    return -(-len(waveform) // HOP)


@functools.cache
def _window() -> NDArray[np.float64]:
    window: NDArray[np.float64] = scipy.signal.get_window("hann", ORACLE_FRAME_SAMPLES)
    return window


def _stft(waveform: Waveform, first: int, count: int) -> Spectrum:
    """Frames of scipy.signal.stft(nperseg=2048): zeros before and after, frame n is around n HOP.

    Args:
        waveform: float32 [samples, channels].
        first: number of the first frame.
        count: how many frames.
    """
    begin = (first - 1) * HOP
    piece = waveform[max(0, begin) : begin + (count + 1) * HOP]
    padded = np.zeros((waveform.shape[1], (count + 1) * HOP))
    offset = max(0, -begin)
    padded[:, offset : offset + len(piece)] = piece.T
    windows = sliding_window_view(padded, ORACLE_FRAME_SAMPLES, axis=1)[:, ::HOP]
    # SciPy's scale: EPSILON is compared with it.
    spectrum: Spectrum = scipy.fft.rfft(windows * (_window() / _window().sum()))
    return spectrum


def _istft(spectrum: Spectrum) -> NDArray[np.float64]:
    """The samples that two frames cover each: [(frames - 1) HOP, channels]."""
    window = _window() * _window().sum()
    frames = scipy.fft.irfft(spectrum, n=ORACLE_FRAME_SAMPLES) * window
    waveform = frames[:, :-1, HOP:] + frames[:, 1:, :HOP]
    waveform /= _window()[:HOP] ** 2 + _window()[HOP:] ** 2
    samples: NDArray[np.float64] = waveform.reshape(len(waveform), -1).T
    return samples


METHODS: dict[str, Callable[[Waveform, Stems], dict[str, Waveform]]] = {
    UNPROCESSED: unprocessed_mixture,
    "MIX": share_of_mixture,
    "IRM1": functools.partial(ideal_ratio_mask, alpha=1.0),
    "IRM2": functools.partial(ideal_ratio_mask, alpha=2.0),
    "IBM1": functools.partial(ideal_binary_mask, alpha=1.0),
    "IBM2": functools.partial(ideal_binary_mask, alpha=2.0),
    "MWF": multichannel_wiener_filter,
}

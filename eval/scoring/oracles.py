"""Methods that know the true stems, and the mixture as estimate: references for any table.

Named and defined as in SiSEC 2018 (Stöter, Liutkus, Ito, LVA/ICA 2018): IRM1 and IRM2 are ideal
ratio masks of magnitudes and of energies, IBM1 and IBM2 ideal binary masks of the same, MWF a
multichannel Wiener filter whose parameters are estimated from the true stems.
"""

import functools
from collections.abc import Callable, Mapping

import numpy as np
import scipy.signal
from numpy.typing import NDArray

from stemforge.features.signal.stft import Waveform

# SiSEC 2018's oracles use frames of 2048 samples, half overlapped.
ORACLE_FRAME_SAMPLES = 2048
EPSILON = float(np.finfo(np.float64).eps)
BINARY_THRESHOLD = 0.5
Spectrum = NDArray[np.complex128]  # [bins, channels, frames]
Stems = Mapping[str, Waveform]


def mixture_as_estimate(mixture: Waveform, stems: Stems) -> dict[str, Waveform]:
    """MIX: each stem's estimate is the unprocessed mixture: the score of no separation.

    Args:
        mixture: float32 [samples, channels].
        stems: true stems; only their names count.
    """
    return dict.fromkeys(stems, mixture)


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
    powers = {name: np.abs(_stft(waveform)) ** alpha for name, waveform in stems.items()}
    total = EPSILON + sum(powers.values())
    mixed = _stft(mixture)
    return {name: _istft(mixed * (power / total), len(mixture)) for name, power in powers.items()}


def ideal_binary_mask(mixture: Waveform, stems: Stems, *, alpha: float) -> dict[str, Waveform]:
    """IBM: a bin is a stem's where |S_k|^alpha is at least half of |X|^alpha.

    Args:
        mixture: float32 [samples, channels].
        stems: true stems, the same shape.
        alpha: 1 or 2.

    Returns:
        float32 [samples, channels] per stem.
    """
    mixed = _stft(mixture)
    bound = BINARY_THRESHOLD * (EPSILON + np.abs(mixed) ** alpha)
    return {
        name: _istft(mixed * (np.abs(_stft(stem)) ** alpha >= bound), len(mixture))
        for name, stem in stems.items()
    }


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
    identity = np.eye(channels)
    models = {}
    for name, waveform in stems.items():
        spectrum = _stft(waveform)
        power = EPSILON + np.mean(np.abs(spectrum) ** 2, axis=1)  # [bins, frames]
        covariance = np.einsum("bct,bdt,bt->bcd", spectrum, spectrum.conj(), 1.0 / power)
        covariance /= spectrum.shape[2]
        trace = EPSILON + np.trace(covariance, axis1=1, axis2=2).real
        covariance = covariance * (channels / trace)[:, None, None] + EPSILON * identity
        # R^-1 by its eigenvectors: for a source in the middle it is singular, apart from EPSILON.
        values, vectors = np.linalg.eigh(covariance)
        turned = np.abs(np.einsum("bck,bct->bkt", vectors.conj(), spectrum)) ** 2
        power = np.einsum("bkt,bk->bt", turned, 1.0 / np.maximum(values, EPSILON)) / channels
        models[name] = power, covariance
    mixed = _stft(mixture)
    total = sum(power[..., None, None] * r[:, None] for power, r in models.values())
    # C^-1 x, which all stems share; C is as singular where all sources are in the middle.
    loaded = (
        total
        + EPSILON * (1.0 + 8.0 * np.trace(total, axis1=2, axis2=3).real)[..., None, None] * identity
    )
    white = np.linalg.solve(loaded, np.moveaxis(mixed, 1, 2)[..., None])[..., 0]
    return {
        name: _istft(np.einsum("bt,bcd,btd->bct", power, r, white), len(mixture))
        for name, (power, r) in models.items()
    }


def _stft(waveform: Waveform) -> Spectrum:
    wide = np.asarray(waveform, np.float64)
    _, _, spectrum = scipy.signal.stft(wide, nperseg=ORACLE_FRAME_SAMPLES, axis=0)
    return spectrum


def _istft(spectrum: Spectrum, samples: int) -> Waveform:
    # With axis=0 SciPy keeps frequency first, channels second, time last.
    _, waveform = scipy.signal.istft(spectrum, nperseg=ORACLE_FRAME_SAMPLES, freq_axis=0)
    return np.asarray(waveform.T[:samples], np.float32)


METHODS: dict[str, Callable[[Waveform, Stems], dict[str, Waveform]]] = {
    "MIX": mixture_as_estimate,
    "IRM1": functools.partial(ideal_ratio_mask, alpha=1.0),
    "IRM2": functools.partial(ideal_ratio_mask, alpha=2.0),
    "IBM1": functools.partial(ideal_binary_mask, alpha=1.0),
    "IBM2": functools.partial(ideal_binary_mask, alpha=2.0),
    "MWF": multichannel_wiener_filter,
}

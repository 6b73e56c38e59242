"""Metrics of a whole track, over all samples and channels together, without BSSEval's frames."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Signal = NDArray[Any]  # float32 or float64 [samples, channels], full scale at 1
Values = NDArray[np.float64]
# Mitsufuji et al., Music Demixing Challenge 2021 (Frontiers in Signal Processing, 2022).
UTTERANCE_EPSILON = 1e-7
# Schulze-Forster et al. (WASPAA 2019): a silent estimate has -120 dB.
SILENCE_EPSILON = 1e-12
BLOCK_SAMPLES = 2**16  # a song in float64 would need more memory than all else in its scoring


def utterance_sdr(reference: Signal, estimate: Signal) -> float:
    """SDR of the whole track, uSDR: 10 log10((|s|^2 + 1e-7) / (|s - e|^2 + 1e-7)).

    The score of the Music Demixing Challenges (2021, 2023), which take its mean over tracks.

    Args:
        reference: s, float [samples, channels], full scale at 1.
        estimate: e, of the same shape.

    Returns:
        dB; NaN for a silent reference, where the formula would give some -100 dB.
    """
    if not np.any(reference):
        return float("nan")
    error = sum(_energy(s - e) for s, e in _blocks(reference, estimate))
    return _decibels(_energy(reference) + UTTERANCE_EPSILON, error + UTTERANCE_EPSILON)


def si_sdr(reference: Signal, estimate: Signal) -> float:
    """Scale-invariant SDR: 10 log10(|a s|^2 / |a s - e|^2) with a = <e, s> / |s|^2.

    Le Roux, Wisdom, Erdogan, Hershey: SDR - half-baked or well done? (ICASSP 2019). One gain
    for all channels; means are not removed.

    Args:
        reference: s, float [samples, channels].
        estimate: e, of the same shape.

    Returns:
        dB; infinite for a scaled reference, NaN where either is silent.
    """
    energy = _energy(reference)
    if energy == 0.0 or not np.any(estimate):
        return float("nan")
    product = float(np.einsum("nc,nc->", reference, estimate, dtype=np.float64))
    gain = product / energy
    error = sum(_energy(gain * s - e) for s, e in _blocks(reference, estimate))
    return _decibels(gain**2 * energy, error)


def predicted_energy_at_silence(
    reference: Signal, estimate: Signal, frames: Iterable[slice]
) -> float:
    """PES: how much of the other stems an estimate holds where its own stem is silent.

    The mean of 10 log10(|e|^2 + 1e-12), where e is a frame of the estimate, over the frames in
    which the reference is all zeros. Schulze-Forster, Doire, Richard, Badeau: Weakly informed
    audio source separation (WASPAA 2019). Lower is better; BSSEval has no score there.

    Args:
        reference: float [samples, channels], full scale at 1.
        estimate: of the same shape.
        frames: which samples belong to each.

    Returns:
        dB, -120 for silence; NaN where no frame is silent.
    """
    energies = [_energy(estimate[frame]) for frame in frames if not np.any(reference[frame])]
    levels = [_decibels(energy + SILENCE_EPSILON, 1.0) for energy in energies]
    return float(np.mean(levels)) if levels else float("nan")


def _blocks(reference: Signal, estimate: Signal) -> Iterator[tuple[Values, Signal]]:
    """Both, a block of samples at a time; the first in float64, and so what is computed of both."""
    for start in range(0, len(reference), BLOCK_SAMPLES):
        part = slice(start, start + BLOCK_SAMPLES)
        yield np.asarray(reference[part], np.float64), estimate[part]


def _energy(signal: Signal) -> float:
    return float(np.einsum("nc,nc->", signal, signal, dtype=np.float64))


def _decibels(signal: float, error: float) -> float:
    with np.errstate(divide="ignore"):
        return float(10.0 * (np.log10(signal) - np.log10(error)))

"""Reference methods that know the truth: the mixture as estimate, and the ideal ratio mask.

Named and defined as in SiSEC 2018 (Stoter, Liutkus, Ito, LVA/ICA 2018).
"""

from collections.abc import Mapping

import numpy as np
import scipy.signal
from numpy.typing import NDArray

from features.stft import Waveform

# SiSEC 2018's oracles use frames of 2048 samples, half overlapped.
ORACLE_FRAME_SAMPLES = 2048
EPSILON = float(np.finfo(np.float64).eps)


def mixture_as_estimate(mixture: Waveform, stems: Mapping[str, Waveform]) -> dict[str, Waveform]:
    """MIX: each stem's estimate is the unprocessed mixture, the floor of any table.

    Args:
        mixture: float32 [samples, channels].
        stems: true stems; only their names count.
    """
    return dict.fromkeys(stems, mixture)


def ideal_ratio_mask(mixture: Waveform, stems: Mapping[str, Waveform]) -> dict[str, Waveform]:
    """IRM1: masks |S_k| / sum_j |S_j| from the true stems, applied to the mixture's STFT.

    Args:
        mixture: float32 [samples, channels].
        stems: true stems, the same shape.

    Returns:
        float32 [samples, channels] per stem: the ceiling for methods that mask magnitudes
        of one channel at a time.
    """

    def transform(waveform: Waveform) -> NDArray[np.complex64]:
        _, _, spectrum = scipy.signal.stft(waveform, nperseg=ORACLE_FRAME_SAMPLES, axis=0)
        return np.asarray(spectrum, np.complex64)

    spectra = {name: np.abs(transform(waveform)) for name, waveform in stems.items()}
    total = EPSILON + sum(spectra.values())
    mixed = transform(mixture)
    out = {}
    for name, magnitude in spectra.items():
        masked = mixed * (magnitude / total)
        # With axis=0 SciPy keeps frequency first, channels second, time last.
        _, waveform = scipy.signal.istft(masked, nperseg=ORACLE_FRAME_SAMPLES, freq_axis=0)
        out[name] = np.asarray(waveform.T[: len(mixture)], np.float32)
    return out


METHODS = {"MIX": mixture_as_estimate, "IRM1": ideal_ratio_mask}

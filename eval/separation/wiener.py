"""Multichannel Wiener filter: one pass of expectation-maximisation, as norbert defines it."""

import numpy as np
from numpy.typing import NDArray

from stemforge.features.signal.stft import Spectrum

EPSILON = np.finfo(np.float32).eps  # norbert's regularisation, for complex64 spectra
LOUDEST = 10.0  # mixtures are scaled to at most this magnitude


def wiener_filter(estimates: NDArray[np.float32], mixture: Spectrum) -> Spectrum:
    """Separates by a local Gaussian model of each stem.

    The stems' spectra start as y_j = e_j / sum_k e_k * x, scaled so that |x| <= 10. Their
    powers v_j = mean over channels of |y_j|^2 and spatial covariances
    R_j = sum_t y_j y_j^H / sum_t v_j give the filter y_j = v_j R_j C^-1 x, where
    C = sum_j v_j R_j + sqrt(eps) I. Spleeter's own MWF option calls the same,
    norbert.wiener(v, x). Source: Nugraha, Liutkus, Vincent: Multichannel audio source separation
    with deep neural networks (IEEE/ACM TASLP 2016).

    Args:
        estimates: float32 [stems, frames, bins, 2], magnitudes of the lowest bins; above them
            they are zero.
        mixture: complex64 [frames, at least bins, 2].

    Returns:
        complex64 [stems, frames, bins, 2].
    """
    scale = max(1.0, float(np.abs(mixture).max(initial=0.0)) / LOUDEST)
    x = (mixture[:, : estimates.shape[2]] / np.float32(scale)).astype(np.complex64)
    y = estimates / (EPSILON + estimates.sum(axis=0)) * x
    # [stems, frames, bins]
    powers: NDArray[np.float64] = np.square(np.abs(y)).mean(axis=-1, dtype=np.float64)
    left, right = y[..., 0], y[..., 1]
    total = EPSILON + powers.sum(axis=1)  # [stems, bins]
    r00 = np.square(np.abs(left)).sum(axis=1, dtype=np.float64) / total
    r11 = np.square(np.abs(right)).sum(axis=1, dtype=np.float64) / total
    r01 = (left * right.conj()).sum(axis=1, dtype=np.complex128) / total
    noise = np.sqrt(EPSILON)
    c00 = np.einsum("stf,sf->tf", powers, r00) + noise
    c11 = np.einsum("stf,sf->tf", powers, r11) + noise
    c01 = np.einsum("stf,sf->tf", powers, r01)
    determinant = c00 * c11 - np.square(np.abs(c01))
    # C^-1 x, which all stems share.
    white = np.stack(
        [
            (c11 * x[..., 0] - c01 * x[..., 1]) / determinant,
            (c00 * x[..., 1] - c01.conj() * x[..., 0]) / determinant,
        ],
        axis=-1,
    )
    out = np.empty(estimates.shape, np.complex64)
    for stem in range(len(estimates)):
        gain = powers[stem] * scale
        a, b = white[..., 0], white[..., 1]
        out[stem, ..., 0] = gain * (r00[stem] * a + r01[stem] * b)
        out[stem, ..., 1] = gain * (r01[stem].conj() * a + r11[stem] * b)
    return out

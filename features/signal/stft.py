"""Short-time Fourier transform, as Spleeter frames it, and its inverse.

Frames start at multiples of the hop, without centring and without
padding. Arrays are [frames, bins, channels].
"""

from collections.abc import Iterator

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from stemforge.features.signal.framing import Framing

FRAMES_AT_ONCE = 32  # windows and spectra of this many frames stay in a core's cache
Waveform = NDArray[np.float32]
Spectrum = NDArray[np.complex64]


def hann(length: int) -> NDArray[np.float32]:
    """Periodic Hann window, 0.5 - 0.5 cos(2 pi n / length).

    Args:
        length: window length in samples.

    Returns:
        float32 [length], in [0, 1].
    """
    phase = 2.0 * np.pi * np.arange(length) / length
    return (0.5 - 0.5 * np.cos(phase)).astype(np.float32)


def stft(waveform: Waveform, framing: Framing) -> Spectrum:
    """Complex STFT with a periodic Hann window.

    Args:
        waveform: float32 [samples, channels], full scale at 1.
        framing: window length and hop.

    Returns:
        complex64 [frames, length / 2 + 1, channels]; a full-scale sine on a bin peaks at
        length / 4 (1024 for 4096 samples).

    Raises:
        ValueError: the waveform is not [samples, channels].
    """
    frames = framing.count(len(waveform))
    out = np.empty((waveform.shape[-1], frames, framing.bins), np.complex64)
    for first, spectrum in _spectra(waveform, framing):
        out[:, first : first + spectrum.shape[1]] = spectrum
    return np.moveaxis(out, 0, -1)


def magnitude_stft(waveform: Waveform, framing: Framing, *, bins: int) -> NDArray[np.float32]:
    """|STFT| of the lowest bins, without the whole complex spectrum in memory.

    Args:
        waveform: float32 [samples, channels], full scale at 1.
        framing: window length and hop.
        bins: number of bins kept, from 0 Hz.

    Returns:
        float32 [frames, bins, channels].

    Raises:
        ValueError: the waveform is not [samples, channels].
    """
    frames = framing.count(len(waveform))
    magnitudes = np.empty((waveform.shape[-1], frames, bins), np.float32)
    for first, spectrum in _spectra(waveform, framing):
        part = magnitudes[:, first : first + spectrum.shape[1]]
        np.abs(spectrum[..., :bins], out=part)
    return np.moveaxis(magnitudes, 0, -1)


def _spectra(waveform: Waveform, framing: Framing) -> Iterator[tuple[int, Spectrum]]:
    """First frame and complex64 [channels, frames, bins] of a few frames at a time."""
    if waveform.ndim != 2:
        raise ValueError(f"waveform must be [samples, channels], got shape {waveform.shape}")
    frames = framing.count(len(waveform))
    if frames == 0:
        return
    # Channels first, so that each window is contiguous for the FFT.
    channels = np.ascontiguousarray(waveform.T, dtype=np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(channels, framing.length_samples, axis=1)
    windows = windows[:, :: framing.step_samples][:, :frames]
    window = hann(framing.length_samples)
    for first in range(0, frames, FRAMES_AT_ONCE):
        framed = windows[:, first : first + FRAMES_AT_ONCE] * window
        yield first, scipy.fft.rfft(framed, axis=-1)


def inverse_stft(spectrum: Spectrum, framing: Framing) -> Waveform:
    """Inverse of `stft` by windowed overlap-add.

    The synthesis window is the analysis window again, so the overlapped sum weighs each
    sample by sum_k hann^2(n - k hop). hann^2 = 3/8 - cos/2 + cos(2)/8, and the cosines
    cancel over length / hop >= 3 equally spaced shifts, which leaves 3/8 * length / hop:
    1.5 at Spleeter's 4096 and 1024, hence its factor 2/3.

    Args:
        spectrum: complex64 [frames, bins, channels].
        framing: window length and hop; the hop divides the length at least three times.

    Returns:
        float32 [(frames - 1) * hop + length, channels]. Exact where every sample lies
        under length / hop frames; the ends fade with the windows. Adding the results of
        consecutive parts at their offsets equals the inverse of the whole.

    Raises:
        ValueError: the hop does not divide the length at least three times.
    """
    overlap, rest = divmod(framing.length_samples, framing.step_samples)
    if rest or overlap < 3:
        raise ValueError(f"{framing}: the step must divide the length at least three times")
    frames, _, channels = spectrum.shape
    scale = np.float32(8.0 / (3.0 * overlap))
    window = hann(framing.length_samples) * scale
    framed = scipy.fft.irfft(np.moveaxis(spectrum, -1, 0), n=framing.length_samples, axis=-1)
    framed *= window
    # One hop-sized piece of every frame at a time: `overlap` vector additions.
    out = np.zeros((channels, frames + overlap - 1, framing.step_samples), np.float32)
    pieces = framed.reshape(channels, frames, overlap, framing.step_samples)
    for shift in range(overlap):
        out[:, shift : shift + frames] += pieces[:, :, shift]
    return np.ascontiguousarray(out.reshape(channels, -1).T)

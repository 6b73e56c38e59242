"""Pictures of magnitudes and waveforms, and estimates made audible."""

import numpy as np
from numpy.typing import NDArray

from stemforge.features.signal.framing import Framing
from stemforge.features.signal.stft import Waveform, inverse_stft

RANGE_DB = 80.0  # below the reference is black
# Black, purple, orange, white: brightness rises with level, also for the colour-blind.
LEVELS = (0.0, 0.35, 0.7, 1.0)
COLOURS = ((0, 0, 4), (120, 28, 109), (249, 142, 9), (252, 255, 220))
FLOOR = 1e-10
Image = NDArray[np.uint8]


def spectrogram(magnitudes: NDArray[np.float32], *, reference: float, rows: int) -> Image:
    """A picture of magnitudes: time from left to right, frequency upwards.

    Args:
        magnitudes: float32 [frames, bins, channels].
        reference: magnitude of white; RANGE_DB below it is black.
        rows: height, at most as many as bins; a row shows the largest of its bins.

    Returns:
        uint8 [rows, frames, 3].
    """
    level = magnitudes.max(axis=2)
    starts = np.arange(rows) * level.shape[1] // rows
    level = np.maximum.reduceat(level, starts, axis=1)
    decibels = 20.0 * np.log10(np.maximum(level, FLOOR) / max(reference, FLOOR))
    share = np.clip(1.0 + decibels / RANGE_DB, 0.0, 1.0).T[::-1]
    channels = [np.interp(share, LEVELS, [colour[c] for colour in COLOURS]) for c in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def waveform(samples: Waveform, *, rows: int, columns: int) -> Image:
    """A picture of a waveform: its range in each column, full scale at the edges.

    Args:
        samples: float32 [samples, channels].
        rows: height.
        columns: width, at most as many as samples.

    Returns:
        uint8 [rows, columns, 1], white on black.
    """
    parts = np.array_split(samples, columns)
    low = np.array([part.min() for part in parts])
    high = np.array([part.max() for part in parts])
    height = np.linspace(1.0, -1.0, rows)[:, None]
    half = 1.0 / (rows - 1)  # a silent column still shows its line
    inside = (height >= low - half) & (height <= high + half)
    return (inside[..., None] * 255).astype(np.uint8)


def stack(images: list[Image]) -> Image:
    """Pictures of one width, one above the other with a white line between."""
    line = np.full((2, images[0].shape[1], images[0].shape[2]), 255, np.uint8)
    parts = [part for image in images for part in (line, image)]
    return np.concatenate(parts[1:])


def audible(
    magnitudes: NDArray[np.float32], phase: NDArray[np.float32], *, framing: Framing
) -> Waveform:
    """The waveform of magnitudes with the mixture's phase; bins above F are zero.

    Args:
        magnitudes: float32 [frames, bins, channels].
        phase: float32, the same shape, radians.
        framing: of the STFT.

    Returns:
        float32 [samples, channels].
    """
    frames, bins, channels = magnitudes.shape
    spectrum = np.zeros((frames, framing.length_samples // 2 + 1, channels), np.complex64)
    spectrum[:, :bins] = magnitudes * np.exp(1j * phase)
    return inverse_stft(spectrum, framing)

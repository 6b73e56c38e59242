"""Which seconds of a song the report plays, and the outline of its waveform."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stemforge.features.signal.stft import Waveform

Kind = Literal["median", "best", "worst", "whole"]
RULE = (
    "Excerpts are around the frame whose SDR, averaged over the stems of {method}, is nearest to "
    "the song's median, around the highest, and around the lowest; each is {seconds:g} s long, and "
    "none overlaps another. Songs of up to {whole:g} s are whole."
)


@dataclass(frozen=True)
class Excerpt:
    """A part of a song.

    Attributes:
        kind: what it was chosen for.
        start: first sample.
        end: one after its last sample.
    """

    kind: Kind
    start: int
    end: int


def choose_excerpts(
    sdr_db: Sequence[float],
    *,
    hop_s: float,
    window_s: float,
    samples: int,
    sample_rate_hz: int,
    seconds: float,
) -> list[Excerpt]:
    """Parts around the median, the best and the worst frame.

    Args:
        sdr_db: of each frame, averaged over targets; NaN where there is none.
        hop_s: distance between the starts of two frames.
        window_s: length of a frame.
        samples: length of the song.
        sample_rate_hz: of the song.
        seconds: length of an excerpt.

    Returns:
        At most one of each kind, in the order of the song. A frame whose excerpt overlaps one that
        was chosen before is passed over for the next in rank; the median comes first, then the
        best. The best is above the median, the worst below. A song that is no longer than three
        excerpts is one, as a song without scores is its middle.
    """
    length = round(seconds * sample_rate_hz)
    if samples <= 3 * length:
        return [Excerpt("whole", 0, samples)]
    values = np.asarray(sdr_db, np.float64)
    frames = np.flatnonzero(np.isfinite(values))
    if not len(frames):
        start = (samples - length) // 2
        return [Excerpt("median", start, start + length)]
    starts = {
        int(frame): _around((frame * hop_s + window_s / 2) * sample_rate_hz, length, samples)
        for frame in frames
    }
    median = float(np.median(values[frames]))
    above, below = frames[values[frames] > median], frames[values[frames] < median]
    ranks: dict[Kind, tuple[NDArray[np.int64], NDArray[np.float64]]] = {
        "median": (frames, np.abs(values[frames] - median)),
        "best": (above, -values[above]),
        "worst": (below, values[below]),
    }
    chosen: list[Excerpt] = []
    for kind, (found, rank) in ranks.items():
        for frame in found[np.argsort(rank, kind="stable")]:
            start = starts[int(frame)]
            if all(start >= other.end or start + length <= other.start for other in chosen):
                chosen.append(Excerpt(kind, start, start + length))
                break
    return sorted(chosen, key=lambda excerpt: excerpt.start)


def _around(centre: float, length: int, samples: int) -> int:
    """First sample of a part around a place, moved to lie within the song."""
    return min(max(0, round(centre - length / 2)), samples - length)


def outline(waveform: Waveform, *, columns: int) -> list[int]:
    """The outline of a waveform.

    Args:
        waveform: float32 [samples, channels] in [-1, 1].
        columns: to divide it into; no more than it has samples.

    Returns:
        The largest magnitude within each column over all channels, in percent of full scale,
        rounded, at most 100.
    """
    peaks = np.abs(waveform).max(axis=1)
    columns = min(columns, len(peaks))
    edges = [math.ceil(len(peaks) * column / columns) for column in range(columns)]
    return [min(100, round(100 * float(peak))) for peak in np.maximum.reduceat(peaks, edges)]

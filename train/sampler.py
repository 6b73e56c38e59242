"""The windows of each step: a function of (seed, step) alone.

Draw i of a training run is element i mod n of a permutation of all n windows, with the key
(seed, i div n). So every window is drawn exactly once per epoch, and a run that starts at step
100 000 needs no history. The permutation is a four-round Feistel network on the next power of
four, repeated until the result is in range (Black and Rogaway, Ciphers with arbitrary finite
domains, 2002).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Sampling = Literal["windows", "songs"]
_ROUNDS = 4


def _mix(values: NDArray[np.uint64], key: int) -> NDArray[np.uint64]:
    """SplitMix64's finaliser (Steele, Lea, Flood 2014) of value + key."""
    x = values + np.uint64(key & 0xFFFFFFFFFFFFFFFF)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _key(*parts: int) -> int:
    """One 64-bit key from several integers."""
    value = np.zeros(1, np.uint64)
    for part in parts:
        value = _mix(value, (part + 1) * 0x9E3779B97F4A7C15)
    return int(value[0])


def permute(position: int, size: int, *, key: int) -> int:
    """Image of one position under a pseudo-random permutation of range(size).

    Args:
        position: in range(size).
        size: number of elements.
        key: which permutation.

    Returns:
        An integer in range(size); distinct positions have distinct images.
    """
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    value = position
    while True:
        left, right = value >> half, value & mask
        for turn in range(_ROUNDS):
            mixed = int(_mix(np.array([right], np.uint64), key + turn * 0x632BE59BD9B4E019)[0])
            left, right = right, left ^ (mixed & mask)
        value = (left << half) | right
        if value < size:
            return value


@dataclass(frozen=True)
class Window:
    """Consecutive frames of one run of blocks.

    Attributes:
        run: index of the run.
        start: first frame, counted from the run's start.
    """

    run: int
    start: int


class Sampler:
    """Draws training windows.

    Args:
        songs: name of the song of each run; a song's runs follow each other.
        frames: frames of each run.
        window_frames: frames of a window, T.
        sampling: "windows" draws every possible window equally often; "songs" draws every
            song equally often and then a window in it, as Spleeter does.
        seed: of all draws.

    Raises:
        ValueError: no run holds a window.
    """

    def __init__(
        self,
        songs: Sequence[str],
        frames: Sequence[int],
        *,
        window_frames: int,
        sampling: Sampling,
        seed: int,
    ) -> None:
        starts = np.maximum(np.asarray(frames) - window_frames + 1, 0)
        self._bounds = np.cumsum(starts)
        self.windows = int(self._bounds[-1]) if len(starts) else 0
        if not self.windows:
            raise ValueError(f"no run of blocks has {window_frames} frames")
        self._sampling = sampling
        self._seed = seed
        # Windows of a song are consecutive only if its runs are; they are sorted by song.
        spans: dict[str, tuple[int, int]] = {}
        for song, count, end in zip(songs, starts, self._bounds, strict=True):
            if count:
                first, _ = spans.get(song, (int(end - count), 0))
                spans[song] = (first, int(end))
        self._spans = spans
        self._songs = list(spans.values())

    @property
    def songs(self) -> int:
        """How many songs hold a window."""
        return len(self._songs)

    def draw(self, number: int) -> Window:
        """The window of draw `number`, counted from 0 over the whole training run."""
        if self._sampling == "windows":
            epoch, position = divmod(number, self.windows)
            return self._window(permute(position, self.windows, key=_key(self._seed, epoch)))
        epoch, position = divmod(number, len(self._songs))
        first, end = self._songs[permute(position, len(self._songs), key=_key(self._seed, epoch))]
        # Successive visits go through a permutation of the song's own windows.
        turn, visit = divmod(epoch, end - first)
        key = _key(self._seed, first, turn, 1)
        return self._window(first + permute(visit, end - first, key=key))

    def draw_elsewhere(self, song: str, values: tuple[float, float]) -> Window:
        """A window of another song, from two numbers: none is the same song's.

        With sampling "windows" every window of the other songs is equally likely, with "songs"
        every other song, and then every window in it.

        Args:
            song: one that holds a window; there must be others.
            values: independent and uniform, in [0, 1).
        """
        first, end = self._spans[song]
        if self._sampling == "windows":
            index = _index(values[0], self.windows - (end - first))
            return self._window(index if index < first else index + end - first)
        others = [span for span in self._songs if span != (first, end)]
        first, end = others[_index(values[0], len(others))]
        return self._window(first + _index(values[1], end - first))

    def _window(self, index: int) -> Window:
        run = int(np.searchsorted(self._bounds, index, side="right"))
        before = int(self._bounds[run - 1]) if run else 0
        return Window(run, index - before)

    def batch(self, step: int, size: int) -> list[Window]:
        """The windows of one training step, counted from 0."""
        return [self.draw(step * size + k) for k in range(size)]


def _index(value: float, size: int) -> int:
    """The number in range(size) at this part, in [0, 1), of the range."""
    return min(int(value * size), size - 1)

"""Sound between a sound server's callback and the thread that separates.

The callback never waits and never computes a net: it leaves what it heard, and plays what is
there. Positions are counted in samples from the start, the same for what is heard and for what the
engine has made of it; the callback plays the position that it hears minus the reserve. So the delay
stays the same, however late the engine is at times.
"""

from collections.abc import Mapping, Sequence
from queue import Empty, SimpleQueue

import numpy as np
from numpy.typing import NDArray

from stemforge.features.signal.stft import Waveform

FADE_SAMPLES = 256  # 6 ms: long enough that no click is heard, and short
Outputs = Mapping[str, Waveform]


class Ramp:
    """Gains of several stems, which change without a click.

    Args:
        gains: factors by stem, in order.
    """

    def __init__(self, gains: Mapping[str, float]) -> None:
        self._stems = tuple(gains)
        self.wanted = np.array([*gains.values()], np.float32)
        self._last = self.wanted  # of the last sample

    def set(self, gains: Mapping[str, float]) -> None:
        """What is wanted from now on; stems without a gain are left out."""
        self.wanted = np.array([gains.get(stem, 0.0) for stem in self._stems], np.float32)

    def next(self, samples: int) -> NDArray[np.float32]:
        """Gains of the next samples, float32 [stems, samples]."""
        wanted, before = self.wanted, self._last
        self._last = wanted
        way = np.arange(1, samples + 1, dtype=np.float32) / max(1, min(samples, FADE_SAMPLES))
        return before[:, None] + (wanted - before)[:, None] * np.minimum(np.float32(1.0), way)


class Exchange:
    """The two sides of a stream.

    The callback calls `heard` and `played`, one thread `wait`, `take` and `give`. Both sides only
    write what the other only reads.

    Args:
        stems: names of the engine's outputs that can be heard, in order.
        channels: of the sound.
        reserve: samples that the engine may be late by, beyond its own delay.
        capacity: samples that are kept at least; what is older is lost.

    Attributes:
        channels: of the sound.
        came: samples that the callback has heard.
        late: blocks that were not complete in time.
        lost: samples that the engine has not taken in time.
        broken: blocks before which the sound server itself lost sound.
    """

    def __init__(self, stems: Sequence[str], *, channels: int, reserve: int, capacity: int) -> None:
        self.channels = channels
        self.late = 0
        self.lost = 0
        self.broken = 0
        self._reserve = reserve
        self._stems = tuple(stems)
        self._capacity = reserve + capacity
        self._in = np.zeros((self._capacity, channels), np.float32)
        self._out = np.zeros((len(stems), self._capacity, channels), np.float32)
        self.came = 0
        self._taken = 0  # of those, by the engine
        self._given = 0  # what the engine has made
        self._rising = FADE_SAMPLES  # where what is taken is in its fade-in
        self._signals: SimpleQueue[None] = SimpleQueue()
        self._gains = Ramp(dict.fromkeys(stems, 1.0))
        self._level = 0.0  # of what is played: it rises after each gap
        self._last = np.zeros((FADE_SAMPLES, channels), np.float32)  # played
        self._tail = self._last[:0]  # what fades out over a gap

    # The callback's side.

    def heard(self, block: Waveform) -> None:
        """Leaves float32 [samples, channels] for the engine; not finite samples become zeros."""
        clean = np.where(np.isfinite(block), block, np.float32(0.0))
        _write(self._in, self.came, clean)
        self.came += len(block)
        self._signals.put(None)

    def played(self, samples: int) -> Waveform:
        """The mix of the next samples, float32 [samples, channels].

        What is not there yet is replaced by the last samples in reverse, which fade out; what
        comes after it fades in.
        """
        start = self.came - samples - self._reserve
        ready = int(np.clip(self._given - start, 0, samples))  # before the start it is silent
        out = np.zeros((samples, self._last.shape[1]), np.float32)
        gains = self._gains.next(samples)
        if ready:
            mixed = np.einsum("st,stc->tc", gains[:, :ready], _read(self._out, start, ready))
            rising = np.arange(1, ready + 1, dtype=np.float32) / FADE_SAMPLES
            levels = np.minimum(self._level + rising, 1.0)
            out[:ready] = mixed * levels[:, None]
            self._level = float(levels[-1])
        fading = min(samples, len(self._tail))
        out[:fading] += self._tail[:fading]
        self._tail = self._tail[fading:]
        if ready < samples:
            self.late += 1
            self._fade_out(out, ready)
        self._last = np.concatenate([self._last, out])[-FADE_SAMPLES:]
        return out

    def _fade_out(self, out: Waveform, ready: int) -> None:
        """Goes on after the last sample that is there."""
        if self._level == 0.0:
            return  # it does so since an earlier block
        mirrored = np.concatenate([self._last, out[:ready]])[-FADE_SAMPLES:][::-1]
        fade = 1.0 - np.arange(1, FADE_SAMPLES + 1, dtype=np.float32) / FADE_SAMPLES
        tail = (mirrored * fade[:, None]).astype(np.float32)
        now = min(len(tail), len(out) - ready)
        out[ready:] = 0.0
        out[ready : ready + now] = tail[:now]
        self._tail, self._level = tail[now:], 0.0

    # For a person who looks on.

    def peaks(self, samples: int) -> dict[str, float]:
        """The greatest absolute sample of each stem, with its gain, among the last ones due.

        Args:
            samples: how many; at most the capacity.
        """
        end = min(self.came - self._reserve, self._given)
        stems = _read(self._out, end - samples, samples)
        peaks = self._gains.wanted * np.abs(stems).max(axis=(1, 2))
        return dict(zip(self._stems, peaks.tolist(), strict=True))

    # The engine's side.

    def set_gains(self, gains: Mapping[str, float]) -> None:
        """What is heard of each stem from now on; those without a gain are left out."""
        self._gains.set(gains)

    def wait(self, timeout_s: float) -> bool:
        """Waits for more sound; returns whether some came."""
        try:
            self._signals.get(timeout=timeout_s)
        except Empty:
            return False
        return True

    def take(self) -> tuple[int, Waveform]:
        """All sound that is not taken yet, and its first position.

        Where the engine fell so far behind that sound would be overwritten, that sound is lost;
        what comes after it fades in.
        """
        came = self.came
        if came - self._taken > self._capacity - self._reserve:
            self.lost += came - self._taken
            self._taken, self._rising = came, 0
        start = self._taken
        self._taken = came
        block = _read(self._in, start, came - start)
        rising = np.arange(self._rising, min(FADE_SAMPLES, self._rising + len(block)))
        block[: len(rising)] *= (rising / np.float32(FADE_SAMPLES))[:, None]
        self._rising += len(rising)
        return start, block

    def give(self, start: int, outputs: Outputs) -> None:
        """Leaves the outputs, [samples, channels] each, that belong to positions from `start`."""
        gap = min(start - self._given, self._capacity)
        if gap > 0:
            for ring in self._out:
                _write(ring, start - gap, np.zeros_like(ring[:gap]))
        for ring, stem in zip(self._out, self._stems, strict=True):
            _write(ring, start, outputs[stem])
        self._given = start + len(outputs[self._stems[0]])


def _write(ring: Waveform, start: int, values: Waveform) -> None:
    """Puts values at positions from `start`: at most as many as the ring is long."""
    first = start % len(ring)
    fitting = min(len(values), len(ring) - first)
    ring[first : first + fitting] = values[:fitting]
    ring[: len(values) - fitting] = values[fitting:]


def _read(ring: NDArray[np.float32], start: int, samples: int) -> NDArray[np.float32]:
    """A copy of a ring's samples, on its last axis but one."""
    length = ring.shape[-2]
    first = start % length
    fitting = min(samples, length - first)
    parts = ring[..., first : first + fitting, :], ring[..., : samples - fitting, :]
    return np.concatenate(parts, axis=-2)

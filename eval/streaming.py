"""Separation of a song that comes block by block, in memory that does not grow with it.

How the blocks are cut changes nothing: frames, parts and resampling lie on the song's grid.
"""

from collections.abc import Callable, Sequence
from math import gcd

import numpy as np
import scipy.signal

from features.stft import Framing, Spectrum, Waveform, inverse_stft, stft

TAPS_PER_PHASE = 10  # of scipy.signal.resample_poly's filter, to each side


class StereoSeparation:
    """One song at the nets' rate, on Spleeter's grid.

    One window of zeros goes in front, a frame starts at every hop that begins before the
    end, and parts of T frames are zero-padded at the end.

    Args:
        estimate: from a part's spectrum, complex64 [frames, bins, 2], to those of the stems.
        stems: how many.
        frames: of a part, T.
        framing: of the STFT.
    """

    def __init__(
        self,
        estimate: Callable[[Spectrum], Sequence[Spectrum]],
        *,
        stems: int,
        frames: int,
        framing: Framing,
    ) -> None:
        self._estimate = estimate
        self._framing = framing
        self._frames = frames
        length = framing.length_samples
        self._blocks = [np.zeros((length, 2), np.float32)]
        self._buffered = length
        overlap = framing.span(frames) - frames * framing.step_samples
        self._tails = [np.zeros((overlap, 2), np.float32) for _ in range(stems)]
        self._samples = 0  # in
        self._ready = -length  # out, counted from the song's start

    def push(self, waveform: Waveform) -> list[Waveform]:
        """Takes float32 [samples, 2]; returns what is ready of each stem, in order."""
        self._samples += len(waveform)
        self._append(waveform)
        return self._drain()

    def finish(self) -> list[Waveform]:
        """The rest of each stem: all together are as long as what was pushed."""
        framing = self._framing
        frames = -(-(framing.length_samples + self._samples) // framing.step_samples)
        parts = -(-frames // self._frames)
        done = (self._ready + framing.length_samples) // framing.step_samples // self._frames
        size = self._frames * framing.step_samples
        needed = framing.span((parts - done) * self._frames) if parts > done else 0
        self._append(np.zeros((max(0, needed - self._buffered), 2), np.float32))
        found = self._drain()
        extra = max(0, self._ready - self._samples)
        assert extra < size + framing.length_samples
        return [stem[: len(stem) - extra] for stem in found]

    def _append(self, waveform: Waveform) -> None:
        self._blocks.append(waveform)
        self._buffered += len(waveform)

    def _drain(self) -> list[Waveform]:
        framing = self._framing
        span, size = framing.span(self._frames), self._frames * framing.step_samples
        outs: list[list[Waveform]] = [[np.zeros((0, 2), np.float32)] for _ in self._tails]
        if self._buffered >= span:
            buffer = np.concatenate(self._blocks)
            start = 0
            while len(buffer) - start >= span:
                spectra = self._estimate(stft(buffer[start : start + span], framing))
                skipped = min(size, max(0, -self._ready))
                for number, spectrum in enumerate(spectra):
                    wave = inverse_stft(spectrum, framing)
                    wave[: len(self._tails[number])] += self._tails[number]
                    self._tails[number] = wave[size:].copy()
                    outs[number].append(wave[skipped:size])
                self._ready += size
                start += size
            self._blocks = [buffer[start:].copy()]
            self._buffered = len(buffer) - start
        return [np.concatenate(parts) for parts in outs]


class Resampler:
    """scipy.signal.resample_poly of a signal that comes block by block.

    Args:
        from_hz: rate of the input.
        to_hz: rate of the output.
        channels: of the signal.
    """

    def __init__(self, *, from_hz: int, to_hz: int, channels: int) -> None:
        divisor = gcd(from_hz, to_hz)
        self._up, self._down = to_hz // divisor, from_hz // divisor
        reach = -(-TAPS_PER_PHASE * max(self._up, self._down) // self._up)  # input samples
        self._context = -(-reach // self._down) * self._down
        self._held = np.zeros((0, channels), np.float32)
        self._start = 0  # input position of what is held: a multiple of `down`
        self._done = 0  # output samples

    def push(self, waveform: Waveform) -> Waveform:
        """Takes float32 [samples, channels]; returns what no later sample changes."""
        if self._up == self._down:
            return waveform
        self._held = np.concatenate([self._held, waveform])
        end = self._start + len(self._held) - self._context
        return self._emit(max(self._done, end * self._up // self._down))

    def finish(self) -> Waveform:
        """The rest."""
        if self._up == self._down:
            return self._held
        return self._emit(-(-(self._start + len(self._held)) * self._up // self._down))

    def _emit(self, until: int) -> Waveform:
        if until <= self._done:
            return self._held[:0]
        found = scipy.signal.resample_poly(self._held, self._up, self._down, axis=0)
        first = self._start // self._down * self._up
        out = np.asarray(found[self._done - first : until - first], np.float32)
        self._done = until
        position = until * self._down // self._up - self._context
        start = max(self._start, position // self._down * self._down)
        self._held = self._held[start - self._start :].copy()
        self._start = start
        return out

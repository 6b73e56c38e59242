"""Separates a song block by block, in memory that does not grow with its length.

The size of the blocks does not change the result: the positions of frames, parts and resampled
samples depend on the song alone.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemforge.eval.separation.filters import Estimates, Filter, Spectra
from stemforge.features.signal.framing import Framing
from stemforge.features.signal.stft import Spectrum, Waveform, inverse_stft, stft

TAPS_PER_PHASE = 10  # of scipy.signal.resample_poly's filter, to each side


class StereoSeparation:
    """One song at the nets' rate, on Spleeter's grid.

    One window of zeros comes first, a frame starts at every hop before the end, and the last
    part of T frames is padded with zeros.

    Args:
        estimate: from a part's magnitudes, float32 [frames, bins, 2], to those of the stems,
            float32 [stems, frames, bins, 2].
        filter: from magnitudes and the mixture's spectrum to the wanted stems' spectra.
        wanted: how many stems the filter returns.
        frames: of a part, T.
        bins: of a part, F.
        overlap_frames: overlap of consecutive parts, which are cross-faded there.
        framing: of the STFT.
    """

    def __init__(
        self,
        estimate: Callable[[NDArray[np.float32]], Estimates],
        filter: Filter,  # noqa: A002  (what it is called in signal processing)
        *,
        wanted: int,
        frames: int,
        bins: int,
        overlap_frames: int,
        framing: Framing,
    ) -> None:
        self.wanted = wanted
        self._estimate = estimate
        self._filter = filter
        self._framing = framing
        self._frames = frames
        self._bins = bins
        self._overlap = overlap_frames
        fade = (np.arange(overlap_frames, dtype=np.float32) + 0.5) / max(1, overlap_frames)
        self._fade = fade[:, None, None]
        self._fading: Estimates | None = None  # the last part's end, under the next one
        length = framing.length_samples
        self._blocks = [np.zeros((length, 2), np.float32)]
        self._buffered = length
        self._adding = [OverlapAdd(framing, channels=2) for _ in range(wanted)]
        self._samples = 0  # in
        self._position = 0  # first frame of the next part
        self._ready = -length  # out, counted from the song's start
        self._cores = os.cpu_count() or 1
        self._threads = ThreadPoolExecutor(max_workers=self._cores)

    def push(self, waveform: Waveform) -> list[Waveform]:
        """Takes float32 [samples, 2]; returns the samples of each stem that are ready."""
        self._samples += len(waveform)
        self._append(waveform)
        span = self._framing.span(self._frames)
        found: list[Spectra] = []
        if self._buffered >= span:
            buffer, start = np.concatenate(self._blocks), 0
            while len(buffer) - start >= span:  # so more frames follow this part
                advance = self._frames - self._overlap
                found += self._filter.push(*self._separate(buffer[start : start + span], advance))
                start += advance * self._framing.step_samples
            self._blocks = [buffer[start:].copy()]
            self._buffered = len(buffer) - start
        return self._synthesise(found)

    def finish(self) -> list[Waveform]:
        """The rest of each stem; in total a stem is as long as the input."""
        framing = self._framing
        frames = framing.cover(self._samples)
        span, advance = framing.span(self._frames), self._frames - self._overlap
        self._append(np.zeros((span, 2), np.float32))
        buffer, start = np.concatenate(self._blocks), 0
        found: list[Spectra] = []
        while self._position < frames:
            left = frames - self._position
            last = left <= self._frames
            part = buffer[start : start + span]
            found += self._filter.push(*self._separate(part, left if last else advance))
            if last:
                break
            start += advance * framing.step_samples
        waves = self._synthesise(found + self._filter.finish())
        self._threads.shutdown()
        extra = self._ready - self._samples  # the last frame may begin before the end
        return [wave[: len(wave) - extra] for wave in waves]

    def _append(self, waveform: Waveform) -> None:
        self._blocks.append(waveform)
        self._buffered += len(waveform)

    def _separate(self, part: Waveform, keep: int) -> tuple[Spectrum, Estimates]:
        """Spectrum and estimates of a part's first frames; the rest is faded into the next part."""
        spectrum, mixture = self._analyse(part)
        estimates = self._estimate(mixture)
        if self._fading is not None:
            under = estimates[:, : self._overlap]
            under += (1.0 - self._fade) * (self._fading - under)
        if self._overlap:
            self._fading = estimates[:, -self._overlap :].copy()
        self._position += keep
        return spectrum[:keep], estimates[:, :keep]

    def _analyse(self, part: Waveform) -> tuple[Spectrum, NDArray[np.float32]]:
        """A part's spectrum, and magnitudes [frames, bins, 2]; each core takes some frames."""
        framing = self._framing
        spectrum = np.empty((2, self._frames, framing.bins), np.complex64)
        mixture = np.empty((self._frames, self._bins, 2), np.float32)
        each = -(-self._frames // self._cores)

        def analyse(first: int) -> None:
            last = min(first + each, self._frames)
            start = first * framing.step_samples
            found = np.moveaxis(
                stft(part[start : start + framing.span(last - first)], framing), -1, 0
            )
            spectrum[:, first:last] = found
            mixture[first:last] = np.moveaxis(np.abs(found[..., : self._bins]), 0, -1)

        list(self._threads.map(analyse, range(0, self._frames, each)))
        return np.moveaxis(spectrum, 0, -1), mixture

    def _synthesise(self, found: Sequence[Spectra]) -> list[Waveform]:
        waves = list(
            self._threads.map(
                lambda stem: self._adding[stem].push([spectra[stem] for spectra in found]),
                range(self.wanted),
            )
        )
        skipped = min(len(waves[0]), max(0, -self._ready))
        self._ready += len(waves[0])
        return [wave[skipped:] for wave in waves]


class OverlapAdd:
    """Adds a stem's frames up to its samples, a few at a time.

    Args:
        framing: of the STFT.
        channels: of the stem.
    """

    def __init__(self, framing: Framing, *, channels: int) -> None:
        self._framing = framing
        overlap = framing.length_samples - framing.step_samples
        self._tail = np.zeros((overlap, channels), np.float32)

    def push(self, spectra: Sequence[Callable[[], Spectrum]]) -> Waveform:
        """Takes consecutive frames, complex64 [frames, bins, channels] each.

        Returns:
            float32 [samples, channels]: the samples that no later frame changes, a hop for each
            frame; in the first hops the frames do not yet all overlap.
        """
        waves = [self._tail[:0]]
        for spectrum in spectra:
            wave = inverse_stft(spectrum(), self._framing)
            wave[: len(self._tail)] += self._tail
            done = len(wave) - len(self._tail)
            self._tail = wave[done:].copy()
            waves.append(wave[:done])
        return np.concatenate(waves)


class Resampler:
    """Resamples a signal block by block, as scipy.signal.resample_poly does.

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
        self._start = 0  # input position of `_held`: a multiple of `down`
        self._done = 0  # output samples

    @property
    def period(self) -> int:
        """Samples out after which their positions between those of the input repeat."""
        return self._up

    def ready(self, samples: Any) -> Any:
        """How many samples have come out after so many in.

        Args:
            samples: an integer, or an int64 array.

        Returns:
            An integer, or an int64 array of the same shape.
        """
        if self._up == self._down:
            return samples
        return np.maximum(0, (samples - self._context) * self._up // self._down)

    def needed(self, ready: Any) -> Any:
        """The inverse of `ready`: the fewest samples in after which so many have come out.

        Args:
            ready: an integer, or an int64 array.

        Returns:
            An integer, or an int64 array of the same shape.
        """
        if self._up == self._down:
            return ready
        return np.where(ready > 0, -(-ready * self._down // self._up) + self._context, 0)

    def push(self, waveform: Waveform) -> Waveform:
        """Takes float32 [samples, channels]; returns what no later sample changes."""
        if self._up == self._down:
            return waveform
        self._held = np.concatenate([self._held, waveform])
        return self._emit(int(self.ready(self._start + len(self._held))))

    def finish(self) -> Waveform:
        """The rest."""
        if self._up == self._down:
            return self._held
        return self._emit(-(-(self._start + len(self._held)) * self._up // self._down))

    def _emit(self, until: int) -> Waveform:
        if until <= self._done:
            return self._held[:0]
        import scipy.signal  # 0.5 s and 70 MB; not needed at the nets' own rate

        found = scipy.signal.resample_poly(self._held, self._up, self._down, axis=0)
        first = self._start // self._down * self._up
        out = np.asarray(found[self._done - first : until - first], np.float32)
        self._done = until
        position = until * self._down // self._up - self._context
        start = max(self._start, position // self._down * self._down)
        self._held = self._held[start - self._start :].copy()
        self._start = start
        return out

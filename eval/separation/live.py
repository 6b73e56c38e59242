"""Separates sound while it arrives, with a fixed delay.

A window of T frames slides over the sound, the newest frame at its right. At every `hop` new frames
the nets see the whole window, and the frames that have `lookahead` newer ones, or up to hop - 1
more, are masked and added up. So each frame is separated once, with much of the past and little of
the future: the less, the shorter the delay, and the worse the sound (docs/live.md).

With hop = T and no lookahead the windows are the parts that `Separator.separate` cuts a song into,
and the result is the same.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import gcd

import numpy as np
from numpy.typing import NDArray

from stemforge.errors import UserError
from stemforge.eval.separation.filters import Estimates, Filter
from stemforge.eval.separation.streaming import OverlapAdd, Resampler
from stemforge.features.signal.framing import Framing
from stemforge.features.signal.stft import Waveform, stft


@dataclass(frozen=True)
class Window:
    """What the nets see, and how often.

    Attributes:
        frames: of the window, T.
        hop: new frames in each window.
        lookahead: frames that are newer than the newest that is separated.
    """

    frames: int
    hop: int
    lookahead: int

    def __post_init__(self) -> None:
        """Raises UserError where they do not fit each other."""
        if not 1 <= self.hop <= self.frames:
            raise UserError(
                f"hop={self.hop}: must be 1 to {self.frames}, the frames that the nets process "
                "at once"
            )
        if not 0 <= self.lookahead <= self.frames - self.hop:
            raise UserError(
                f"lookahead={self.lookahead}: must be 0 to {self.frames - self.hop}: each window "
                f"of {self.frames} frames has {self.hop} new ones to separate"
            )

    def ready(self, samples: NDArray[np.int64], framing: Framing) -> NDArray[np.int64]:
        """How many samples of the stems are complete after so many of the mixture.

        Args:
            samples: int64, of any shape.
            framing: of the STFT.
        """
        frames = 1 + samples // framing.step_samples  # the first is of zeros before the sound
        separated = frames // self.hop * self.hop - self.lookahead
        return np.maximum(0, separated * framing.step_samples - framing.length_samples)


class LiveSeparation:
    """Stereo sound at the nets' rate, as it arrives.

    Memory is constant: a window of magnitudes, and the spectra of one hop and the lookahead.

    Args:
        estimate: from a window's magnitudes, float32 [frames, bins, 2], to those of the stems,
            float32 [stems, frames, bins, 2].
        filter: from magnitudes and the mixture's spectrum to the wanted stems' spectra; it
            returns each frame at once.
        wanted: how many stems the filter returns.
        window: what the nets see.
        bins: of the window.
        framing: of the STFT.
    """

    def __init__(
        self,
        estimate: Callable[[NDArray[np.float32]], Estimates],
        filter: Filter,  # noqa: A002  (what it is called in signal processing)
        *,
        wanted: int,
        window: Window,
        bins: int,
        framing: Framing,
    ) -> None:
        self.window = window
        self.framing = framing
        self.wanted = wanted
        self._estimate = estimate
        self._filter = filter
        self._adding = [OverlapAdd(framing, channels=2) for _ in range(wanted)]
        length, step = framing.length_samples, framing.step_samples
        # The samples under a hop's frames: first what the frames before it share with them.
        self._samples = np.zeros((length - step + window.hop * step, 2), np.float32)
        self._filled = length  # a window of zeros comes first, as in a song
        self._magnitudes = np.zeros((window.frames, bins, 2), np.float32)
        held = (window.hop + window.lookahead, framing.bins, 2)
        self._spectra = np.zeros(held, np.complex64)
        self._position = -window.lookahead  # of the next frame that is separated
        self._skip = length  # samples before the sound

    def push(self, waveform: Waveform) -> list[Waveform]:
        """Takes float32 [samples, 2]; returns the samples of each stem that are complete."""
        found: list[list[Waveform]] = [[] for _ in range(self.wanted)]
        start = 0
        while True:
            if self._filled == len(self._samples):
                for waves, wave in zip(found, self._separate(), strict=True):
                    waves.append(wave)
            if start == len(waveform):
                break
            taken = min(len(waveform) - start, len(self._samples) - self._filled)
            self._samples[self._filled : self._filled + taken] = waveform[start : start + taken]
            self._filled += taken
            start += taken
        none = np.zeros((0, 2), np.float32)
        return [np.concatenate([none, *waves]) for waves in found]

    def _separate(self) -> list[Waveform]:
        """Separates a hop's frames."""
        hop = self.window.hop
        new = stft(self._samples, self.framing)
        kept = len(self._samples) - hop * self.framing.step_samples
        self._samples[:kept] = self._samples[-kept:].copy()
        self._filled = kept
        _shift_in(self._spectra, new)
        bins = self._magnitudes.shape[1]
        _shift_in(self._magnitudes, np.abs(new[:, :bins]))
        estimates = self._estimate(self._magnitudes)
        end = self.window.frames - self.window.lookahead
        first = min(hop, max(0, -self._position))  # of those that are not before the sound
        spectra = self._filter.push(self._spectra[first:hop], estimates[:, end - hop + first : end])
        self._position += hop
        waves = [
            adding.push([frames[stem] for frames in spectra])
            for stem, adding in enumerate(self._adding)
        ]
        skipped = min(self._skip, len(waves[0]))
        self._skip -= skipped
        return [wave[skipped:] for wave in waves]


def _shift_in(held: NDArray[np.generic], new: NDArray[np.generic]) -> None:
    """Moves an array's rows towards the start, and puts new ones, at most as many, at its end."""
    if len(new) < len(held):
        held[: -len(new)] = held[len(new) :].copy()
    held[-len(new) :] = new


class LiveSong:
    """Sound of any rate, mono or stereo: as many samples of each stem out as of the mixture in.

    Args:
        separation: at the nets' rate.
        named: from mixture and stems, float32 [samples, channels] each, to the outputs by name.
        channels: of the sound, 1 or 2. Mono is separated as two equal channels.
        sample_rate_hz: of the sound.
        inside_hz: the nets' rate.

    Attributes:
        latency: the outputs' delay against the mixture, in samples of the sound; exact. They
            begin with as many zeros.
    """

    def __init__(
        self,
        separation: LiveSeparation,
        named: Callable[[Waveform, Sequence[Waveform]], dict[str, Waveform]],
        *,
        channels: int,
        sample_rate_hz: int,
        inside_hz: int,
    ) -> None:
        self._separation = separation
        self._named = named
        self._channels = channels
        self._into = Resampler(from_hz=sample_rate_hz, to_hz=inside_hz, channels=2)
        self._out = [
            Resampler(from_hz=inside_hz, to_hz=sample_rate_hz, channels=channels)
            for _ in range(separation.wanted)
        ]
        self.latency = latency_of(separation.window, separation.framing, self._into, self._out[0])
        delay = np.zeros((self.latency, channels), np.float32)
        self._mixture = _Queue(delay)
        self._stems = [_Queue(delay) for _ in self._out]

    def push(self, block: Waveform) -> dict[str, Waveform]:
        """Takes a block of the sound.

        Args:
            block: float32 [samples, channels], full scale at 1, finite.

        Returns:
            The outputs by name, each of the block's shape, as they are `latency` samples ago.
        """
        stereo = np.repeat(block, 2, axis=1) if self._channels == 1 else block
        found = self._separation.push(self._into.push(stereo))
        self._mixture.put(block)
        for queue, resampler, stem in zip(self._stems, self._out, found, strict=True):
            out = stem.mean(axis=1, keepdims=True) if self._channels == 1 else stem
            queue.put(resampler.push(out))
        stems = [queue.get(len(block)) for queue in self._stems]
        return self._named(self._mixture.get(len(block)), stems)


def latency_of(window: Window, framing: Framing, into: Resampler, out: Resampler) -> int:
    """The least delay with which every sample of the stems is there in time, in samples.

    At one rate it is length - 1 + (hop - 1 + lookahead) * step: a sample is complete when the last
    frame over it is, which ends up to a frame's length after it, and that frame is separated when
    the lookahead and the rest of the hop have arrived.

    Stems wait longest just before a hop is complete. When that is, and what has come out by then,
    is known for each hop, and repeats after some hops.

    Args:
        window: of the nets.
        framing: of the STFT.
        into: from the sound's rate to the nets'.
        out: from the nets' rate to the sound's.
    """
    step, hop = framing.step_samples, window.hop * framing.step_samples
    silent = window.lookahead * step + framing.length_samples + int(out.needed(1))
    first = 2 + silent // hop  # until then nothing is out
    hops = np.arange(1, first + into.period // gcd(into.period, hop) + 1, dtype=np.int64)
    waited = into.needed(hops * hop - step) - 1
    ready = out.ready(window.ready(into.ready(waited), framing))
    return int(np.max(waited - ready))


class _Queue:
    """Samples in the order they came, in blocks of any size."""

    def __init__(self, first: Waveform) -> None:
        self._parts = deque([first])
        self._none = first[:0]

    def put(self, part: Waveform) -> None:
        self._parts.append(part.copy())

    def get(self, samples: int) -> Waveform:
        """The next samples, which must be there."""
        found = [self._none]
        while samples:
            part = self._parts.popleft()
            if len(part) > samples:
                self._parts.appendleft(part[samples:])
                part = part[:samples]
            found.append(part)
            samples -= len(part)
        return np.concatenate(found)

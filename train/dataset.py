"""Batches of mixture and stem magnitudes for training and validation.

Threads read windows by offset, of stored features (stored.py) or of sound (waveforms.py), and keep
batches ready on the device that trains on them: a step neither waits for a transform nor contains
it. tf.data is not used: with op determinism on, it has no parallel maps and no prefetching, so each
step would wait for its batch.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from stemforge.errors import UserError
from stemforge.features.corpus.manifest import Split
from stemforge.features.shards.reading import FeatureSet, Place, SplitReader
from stemforge.train.augmentation import Mixer, Take
from stemforge.train.batch import Batch
from stemforge.train.config import Augmentation
from stemforge.train.sampler import Sampler, Sampling
from stemforge.train.stored import StoredSource
from stemforge.train.waveforms import Sound, SoundSource

# Threads; reading, checksums and transforms release the interpreter lock. Nets on GPUs are fast.
READERS = max(2, min(8, (os.cpu_count() or 1) // 2))
BATCHES_AHEAD = 3


@dataclass(frozen=True)
class Share:
    """One of several consecutive parts of a batch, of sizes as equal as possible.

    Attributes:
        index: which part, in range(count).
        count: how many parts.
    """

    index: int
    count: int

    def of(self, windows: Sequence[Any]) -> Sequence[Any]:
        """The windows of this part."""
        first, end = (len(windows) * n // self.count for n in (self.index, self.index + 1))
        return windows[first:end]


WHOLE = Share(0, 1)


class Dataset:
    """The windows of a features folder, for some stems.

    Args:
        features: the opened folder.
        stems: targets.
        window_frames: frames of a window, T.
        batch_size: windows per batch.
        accumulate_steps: batches per training step; they come as one, in order.
        sound: where the same windows are read; None: the features' own magnitudes.
        augmentation: of the training windows, which needs sound; None: none.
    """

    def __init__(
        self,
        features: FeatureSet,
        *,
        stems: Sequence[str],
        window_frames: int,
        batch_size: int,
        accumulate_steps: int = 1,
        sound: Sound | None = None,
        augmentation: Augmentation | None = None,
    ) -> None:
        self.features = features
        self.stems = tuple(stems)
        self.window_frames = window_frames
        self.batch_size = batch_size
        self.step_windows = batch_size * accumulate_steps
        self._sound = sound
        self._augmentation = augmentation

    def training(
        self,
        *,
        sampling: Sampling,
        seed: int,
        start_step: int,
        steps: int,
        share: Share = WHOLE,
        device: str | None = None,
        phases: bool = False,
        waveforms: bool = False,
    ) -> Iterator[Batch]:
        """A share of the batches of steps `start_step` to `steps`, in order, read ahead.

        It reads nothing of earlier steps or other shares.

        Args:
            sampling: how windows are drawn.
            seed: of the draws.
            start_step: the first step.
            steps: the step after the last one.
            share: which part of each batch.
            device: that decodes it, by TensorFlow's name; None: TensorFlow's default.
            phases: the batches hold the mixture's phases.
            waveforms: the batches hold the stems' sound.

        Raises:
            UserError: no song is as long as a window, there is no other song to remix with, the
                features have no phases or sound, a record is damaged, or a file has changed.
        """
        reader = self.features.reader("train")
        sampler = self._sampler(reader, "train", sampling=sampling, seed=seed)
        mixer = self._mixer(reader, sampler, seed)

        def windows(step: int) -> Sequence[Any]:
            whole, size = _places(reader, sampler, step, self.step_windows), self.batch_size
            numbered = [*enumerate(whole)]
            batches = [numbered[start : start + size] for start in range(0, len(whole), size)]
            mine = [window for batch in batches for window in share.of(batch)]
            if mixer is None:
                return self._unchanged([place for _, place in mine])
            return [mixer.takes(step, number, place) for number, place in mine]

        source = self._source(reader, phases=phases, waveforms=waveforms)
        ahead = max(1, BATCHES_AHEAD * self.batch_size // self.step_windows)
        return _batches(source, windows, range(start_step, steps), device=device, at_once=ahead)

    def describe(self, step: int, *, sampling: Sampling, seed: int) -> str:
        """The windows of one training step as text: songs and seconds."""
        reader = self.features.reader("train")
        sampler = self._sampler(reader, "train", sampling=sampling, seed=seed)
        hop_s = self.features.framing.step_samples / self.features.info["sample_rate_hz"]
        return ", ".join(
            f"{run.track!r} from {(run.first_frame + start) * hop_s:.1f} s"
            for run, start in _places(reader, sampler, step, self.step_windows)
        )

    def validation_places(self, most: int) -> list[Place]:
        """Non-overlapping windows of the valid split, evenly spread over it.

        Args:
            most: at most this many.

        Raises:
            UserError: no song is as long as a window.
        """
        reader = self.features.reader("valid")
        self._sampler(reader, "valid", sampling="windows", seed=0)
        places = [
            (run, start)
            for run in reader.runs
            for start in range(0, run.frames - self.window_frames + 1, self.window_frames)
        ]
        picks = np.unique(np.linspace(0, len(places) - 1, min(most, len(places))).round())
        return [places[int(pick)] for pick in picks]

    def validation(
        self,
        *,
        max_windows: int,
        share: Share = WHOLE,
        phases: bool = False,
        waveforms: bool = False,
    ) -> Iterator[Batch]:
        """Batches of a share of the validation windows, never augmented; the last may be smaller.

        Args:
            max_windows: at most this many, see `validation_places`.
            share: which part of the windows.
            phases: the batches hold the mixture's phases.
            waveforms: the batches hold the stems' sound.

        Raises:
            UserError: see `training`.
        """
        reader = self.features.reader("valid")
        chosen = share.of(self.validation_places(max_windows))
        size = max(1, self.batch_size // share.count)
        source = self._source(reader, phases=phases, waveforms=waveforms)
        return _batches(
            source,
            lambda number: self._unchanged(chosen[number * size : (number + 1) * size]),
            range(-(-len(chosen) // size)),
            device=None,
            at_once=BATCHES_AHEAD,
        )

    def _sampler(
        self, reader: SplitReader, split: Split, *, sampling: Sampling, seed: int
    ) -> Sampler:
        longest = max((run.frames for run in reader.runs), default=0)
        if longest < self.window_frames:
            raise UserError(
                f"train.net.frames={self.window_frames}: the longest run of kept blocks in the "
                f"{split} split has {longest} frames: lower train.net.frames or use longer songs"
            )
        return Sampler(
            [run.song for run in reader.runs],
            [run.frames for run in reader.runs],
            window_frames=self.window_frames,
            sampling=sampling,
            seed=seed,
        )

    def _mixer(self, reader: SplitReader, sampler: Sampler, seed: int) -> Mixer | None:
        if self._sound is None or self._augmentation is None:
            return None
        parts, kept = self._sound.parts, self.stems[0]
        mixer = Mixer(self._augmentation, seed, sampler, reader.runs, parts, kept)
        mixer.check()
        return mixer

    def _unchanged(self, places: Sequence[Place]) -> Sequence[Any]:
        """Windows as the source takes them, without augmentation."""
        if self._sound is None:
            return places
        return [dict.fromkeys(self._sound.parts, Take(place)) for place in places]

    def _source(
        self, reader: SplitReader, *, phases: bool, waveforms: bool
    ) -> StoredSource | SoundSource:
        frames, bins, framing = self.window_frames, self.features.bins, self.features.framing
        if self._sound is None:
            return StoredSource(reader, framing, self.stems, frames, phases, waveforms)
        return SoundSource(self._sound, framing, bins, self.stems, frames, phases, waveforms)


def _batches(
    source: StoredSource | SoundSource,
    windows: Callable[[int], Sequence[Any]],
    numbers: range,
    *,
    device: str | None,
    at_once: int,
) -> Iterator[Batch]:
    """Makes batches by number, in order, this many of them ahead."""
    pool = ThreadPoolExecutor(READERS)
    ahead: deque[Callable[[], Batch]] = deque()
    try:
        for number in numbers:
            ahead.append(source.start(pool, windows(number), device))
            if len(ahead) > at_once:
                yield ahead.popleft()()
        while ahead:
            yield ahead.popleft()()
    finally:
        pool.shutdown(cancel_futures=True)


def _places(reader: SplitReader, sampler: Sampler, step: int, batch_size: int) -> list[Place]:
    return [(reader.runs[window.run], window.start) for window in sampler.batch(step, batch_size)]

"""Batches of mixture and stem magnitudes for training and validation.

Threads read the stored windows by offset, decode them in a compiled graph on the device that
trains on them, and keep batches ready: a step neither waits for the decoding nor contains it.
tf.data is not used: with op determinism on, it has no parallel maps and no prefetching, so each
step would wait for its batch.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from stemforge.errors import UserError
from stemforge.features.corpus.manifest import Split
from stemforge.features.corpus.sources import MIXTURE, PHASE
from stemforge.features.shards import encoding_tf
from stemforge.features.shards.reading import FeatureSet, Run, SplitReader
from stemforge.train.batch import Batch
from stemforge.train.sampler import Sampler, Sampling

Place = tuple[Run, int]  # of a window: its run, and its first frame counted from the run's start
# Threads; reading, checksums and decoding release the interpreter lock. Nets on GPUs are fast.
READERS = max(2, min(8, (os.cpu_count() or 1) // 2))
BATCHES_AHEAD = 3
# A compiled graph runs its five operations in one pass over memory: four times as fast.
_decode = tf.function(encoding_tf.decode, jit_compile=True, reduce_retracing=True)


@dataclass(frozen=True)
class Share:
    """One of several consecutive parts of a batch, of sizes as equal as possible.

    Attributes:
        index: which part, in range(count).
        count: how many parts.
    """

    index: int
    count: int

    def of(self, places: Sequence[Place]) -> Sequence[Place]:
        """The windows of this part."""
        first, end = (len(places) * n // self.count for n in (self.index, self.index + 1))
        return places[first:end]


WHOLE = Share(0, 1)


class Dataset:
    """The windows of a features folder, for some stems.

    Args:
        features: the opened folder.
        stems: targets.
        window_frames: frames of a window, T.
        batch_size: windows per batch.
        accumulate_steps: batches per training step; they come as one, in order.
    """

    def __init__(
        self,
        features: FeatureSet,
        *,
        stems: Sequence[str],
        window_frames: int,
        batch_size: int,
        accumulate_steps: int = 1,
    ) -> None:
        self.features = features
        self.stems = tuple(stems)
        self.window_frames = window_frames
        self.batch_size = batch_size
        self.step_windows = batch_size * accumulate_steps

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

        Raises:
            UserError: no song is as long as a window, the features have no phases, or a record
                is damaged.
        """
        reader = self.features.reader("train")
        sampler = self._sampler(reader, "train", sampling=sampling, seed=seed)

        def places(step: int) -> list[Place]:
            whole, size = _places(reader, sampler, step, self.step_windows), self.batch_size
            batches = [whole[start : start + size] for start in range(0, len(whole), size)]
            return [place for batch in batches for place in share.of(batch)]

        return self._batches(
            reader,
            places,
            range(start_step, steps),
            device=device,
            phases=phases,
        )

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
        self, *, max_windows: int, share: Share = WHOLE, phases: bool = False
    ) -> Iterator[Batch]:
        """Batches of a share of the validation windows; the last may be smaller.

        Args:
            max_windows: at most this many, see `validation_places`.
            share: which part of the windows.
            phases: the batches hold the mixture's phases.

        Raises:
            UserError: see `training`.
        """
        reader = self.features.reader("valid")
        chosen = share.of(self.validation_places(max_windows))
        size = max(1, self.batch_size // share.count)
        return self._batches(
            reader,
            lambda number: chosen[number * size : (number + 1) * size],
            range(-(-len(chosen) // size)),
            device=None,
            phases=phases,
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
            [run.track for run in reader.runs],
            [run.frames for run in reader.runs],
            window_frames=self.window_frames,
            sampling=sampling,
            seed=seed,
        )

    def _read(
        self, reader: SplitReader, source: str, places: Sequence[Place], device: str | None
    ) -> Any:
        """Reads in this thread, then decodes on the device: stored bytes are what it gets."""
        if source == PHASE:
            phases = reader.read_phases(places, self.window_frames)
            with tf.device(device):
                return tf.constant(phases)
        found = reader.read_stored(source, places, self.window_frames)
        with tf.device(device):
            return _decode(found.values, found.scales, found.segments)

    def _batches(
        self,
        reader: SplitReader,
        places_of: Callable[[int], Sequence[Place]],
        numbers: range,
        *,
        device: str | None,
        phases: bool,
    ) -> Iterator[Batch]:
        """Reads and decodes batches by number, in order, some of them ahead."""
        pool = ThreadPoolExecutor(READERS)
        ahead: deque[dict[str, Future[Any]]] = deque()
        sources = (MIXTURE, *self.stems, *((PHASE,) if phases else ()))

        def take() -> Batch:
            found = {source: part.result() for source, part in ahead.popleft().items()}
            mixture, phase = found.pop(MIXTURE), found.pop(PHASE, None)
            return Batch(mixture, found, phase, framing=self.features.framing)

        try:
            for number in numbers:
                places = places_of(number)
                ahead.append(
                    {s: pool.submit(self._read, reader, s, places, device) for s in sources}
                )
                if len(ahead) > BATCHES_AHEAD:
                    yield take()
            while ahead:
                yield take()
        finally:
            pool.shutdown(cancel_futures=True)


def _places(reader: SplitReader, sampler: Sampler, step: int, batch_size: int) -> list[Place]:
    return [(reader.runs[window.run], window.start) for window in sampler.batch(step, batch_size)]

"""Batches of (mixture, stem) magnitudes for training and validation.

Threads read windows by offset, as they are stored; tf.data decodes them inside its graph
and keeps decoded batches ready.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import tensorflow as tf

from features import encoding_tf
from features.errors import UserError
from features.feature_set import CHANNELS, FeatureSet, Run, SplitReader
from features.tracks import MIXTURE, Split
from train.sampler import Sampler, Sampling

Batch = tuple[Any, Any]  # tensors
Stored = tuple[Any, ...]  # values, scales and segments of the mixture, then of the stem
READERS = 2  # threads; reading and checksums release the interpreter lock
BATCHES_AHEAD = 3
DECODED_AHEAD = 2


def make_sampler(
    reader: SplitReader, *, window_frames: int, sampling: Sampling, seed: int, split: Split
) -> Sampler:
    """A sampler over one split.

    Raises:
        UserError: no song is as long as a window.
    """
    longest = max((run.frames for run in reader.runs), default=0)
    if longest < window_frames:
        raise UserError(
            f"train.frames={window_frames}: the longest stretch of kept blocks in the {split} "
            f"split has {longest} frames: lower train.frames or use longer songs"
        )
    return Sampler(
        [run.track for run in reader.runs],
        [run.frames for run in reader.runs],
        window_frames=window_frames,
        sampling=sampling,
        seed=seed,
    )


def training_batches(
    features: FeatureSet,
    *,
    stem: str,
    window_frames: int,
    batch_size: int,
    sampling: Sampling,
    seed: int,
    start_step: int,
    steps: int,
) -> Iterator[Batch]:
    """The batches of steps `start_step` to `steps`, read ahead by offset, in order.

    Yields:
        float32 tensors [batch, frames, bins, 2], mixture and stem.

    Raises:
        UserError: no song is as long as a window, or a record is damaged.
    """
    reader = features.reader("train")
    sampler = make_sampler(
        reader, window_frames=window_frames, sampling=sampling, seed=seed, split="train"
    )

    def read(step: int) -> Stored:
        windows = [
            (reader.runs[window.run], window.start) for window in sampler.batch(step, batch_size)
        ]
        return _read(reader, windows, stem, window_frames)

    def stored() -> Iterator[Stored]:
        with ThreadPoolExecutor(READERS) as pool:
            ahead: deque[Future[Stored]] = deque()
            for step in range(start_step, steps + BATCHES_AHEAD):
                if step < steps:
                    ahead.append(pool.submit(read, step))
                if step >= start_step + BATCHES_AHEAD:
                    yield ahead.popleft().result()

    return _decode(stored, features, window_frames)


def validation_batches(
    features: FeatureSet, *, stem: str, window_frames: int, batch_size: int, max_windows: int
) -> Iterator[Batch]:
    """Non-overlapping windows of the valid split, evenly spread over it.

    Args:
        features: the opened folder.
        stem: target.
        window_frames: frames of a window, T.
        batch_size: windows per batch; the last batch may be smaller.
        max_windows: at most this many windows, evenly spaced among all.

    Yields:
        float32 tensors [batch, frames, bins, 2], mixture and stem.

    Raises:
        UserError: no song is as long as a window, or a record is damaged.
    """
    reader = features.reader("valid")
    make_sampler(reader, window_frames=window_frames, sampling="windows", seed=0, split="valid")
    windows = [
        (run, start)
        for run in reader.runs
        for start in range(0, run.frames - window_frames + 1, window_frames)
    ]
    chosen = _spread(windows, max_windows)

    def stored() -> Iterator[Stored]:
        for first in range(0, len(chosen), batch_size):
            yield _read(reader, chosen[first : first + batch_size], stem, window_frames)

    return _decode(stored, features, window_frames)


def _read(
    reader: SplitReader, windows: Sequence[tuple[Run, int]], stem: str, frames: int
) -> Stored:
    parts: list[Any] = []
    for source in (MIXTURE, stem):
        found = [reader.read_stored(source, run, start, frames) for run, start in windows]
        parts += [
            np.stack([window.values for window in found]),
            np.stack([window.scales for window in found]),
            np.stack([window.segments for window in found]),
        ]
    return tuple(parts)


def _decode(
    stored: Callable[[], Iterator[Stored]], features: FeatureSet, frames: int
) -> Iterator[Batch]:
    """Runs stored batches through tf.data, which decodes them in its graph."""
    failures: list[UserError] = []

    def guarded() -> Iterator[Stored]:
        try:
            yield from stored()
        except UserError as error:
            failures.append(error)  # tf.data would bury it in its own words
            raise

    source = (
        tf.TensorSpec([None, frames, features.bins, CHANNELS], features.dtype),
        tf.TensorSpec([None, None, features.bins, CHANNELS], tf.float32),
        tf.TensorSpec([None, frames], tf.int32),
    )
    dataset = (
        tf.data.Dataset.from_generator(guarded, output_signature=source * 2)
        .map(lambda *parts: (encoding_tf.decode(*parts[:3]), encoding_tf.decode(*parts[3:])))
        .prefetch(DECODED_AHEAD)
    )
    try:
        yield from dataset
    except tf.errors.OpError:
        if failures:
            raise failures[0] from None
        raise


def _spread(windows: list[tuple[Run, int]], most: int) -> list[tuple[Run, int]]:
    picks = np.unique(np.linspace(0, len(windows) - 1, min(most, len(windows))).round())
    return [windows[int(pick)] for pick in picks]

"""Batches of (mixture, stem) magnitudes for training and validation."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from features.errors import UserError
from features.records import FeatureSet, Run, SplitReader
from features.tracks import MIXTURE, Split
from train.sampler import Sampler, Sampling

Batch = tuple[NDArray[np.float32], NDArray[np.float32]]
READERS = 2  # threads; reading and decoding release the interpreter lock
BATCHES_AHEAD = 3


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
        float32 [batch, frames, bins, 2] pairs, mixture and stem.

    Raises:
        UserError: no song is as long as a window, or a record is damaged.
    """
    reader = features.reader("train")
    sampler = make_sampler(
        reader, window_frames=window_frames, sampling=sampling, seed=seed, split="train"
    )

    def read(step: int) -> Batch:
        windows = [
            (reader.runs[window.run], window.start) for window in sampler.batch(step, batch_size)
        ]
        return _read(reader, windows, stem, window_frames)

    with ThreadPoolExecutor(READERS) as pool:
        ahead: deque[Future[Batch]] = deque()
        for step in range(start_step, steps + BATCHES_AHEAD):
            if step < steps:
                ahead.append(pool.submit(read, step))
            if step >= start_step + BATCHES_AHEAD:
                yield ahead.popleft().result()


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
        float32 [batch, frames, bins, 2] pairs, mixture and stem.

    Raises:
        UserError: no song is as long as a window.
    """
    reader = features.reader("valid")
    make_sampler(reader, window_frames=window_frames, sampling="windows", seed=0, split="valid")
    windows = [
        (run, start)
        for run in reader.runs
        for start in range(0, run.frames - window_frames + 1, window_frames)
    ]
    chosen = _spread(windows, max_windows)
    for first in range(0, len(chosen), batch_size):
        yield _read(reader, chosen[first : first + batch_size], stem, window_frames)


def _read(reader: SplitReader, windows: Sequence[tuple[Run, int]], stem: str, frames: int) -> Batch:
    mixture, target = (
        np.stack([reader.read(name, run, start, frames) for run, start in windows])
        for name in (MIXTURE, stem)
    )
    return mixture, target


def _spread(windows: list[tuple[Run, int]], most: int) -> list[tuple[Run, int]]:
    picks = np.unique(np.linspace(0, len(windows) - 1, min(most, len(windows))).round())
    return [windows[int(pick)] for pick in picks]

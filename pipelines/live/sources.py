"""Songs that are played into a live separation as if a device heard them."""

import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from queue import Empty, Full, Queue

import numpy as np

from stemforge.errors import UserError
from stemforge.eval.separation.streaming import Resampler
from stemforge.features.audio.files import as_stereo, stream_song
from stemforge.features.signal.stft import Waveform

BLOCK_SAMPLES = 4096
AHEAD = 64  # blocks that are decoded before they are played: 6 s
WAIT_S, POLL_S = 0.1, 0.005


def read_song(path: Path, *, sample_rate_hz: int) -> Iterator[Waveform]:
    """A song in stereo at another rate.

    Args:
        path: of the file.
        sample_rate_hz: the wanted rate.

    Returns:
        An iterator of float32 [samples, 2], blocks of any size. It raises UserError where the file
        is damaged, or holds samples that are not finite.

    Raises:
        UserError: it cannot be read, or has more than two channels.
    """
    info, blocks = stream_song(path)
    if info.channels > 2:
        raise UserError(f"{path}: {info.channels} channels: not supported: mix them to two first")
    resampler = Resampler(from_hz=info.sample_rate_hz, to_hz=sample_rate_hz, channels=2)

    def resampled() -> Iterator[Waveform]:
        for block in blocks:
            if bad := np.count_nonzero(~np.isfinite(block)):
                raise UserError(f"{path}: {bad} samples are not finite")
            yield resampler.push(as_stereo(block))
        yield resampler.finish()

    return resampled()


class Player:
    """Decodes ahead in a thread, and gives blocks of any size without waiting.

    Args:
        blocks: float32 [samples, 2] each.

    Attributes:
        error: what ended the decoding early; None: nothing has.
        missing: samples that were not decoded in time, and so were silence.
    """

    def __init__(self, blocks: Iterable[Waveform]) -> None:
        self.error: BaseException | None = None
        self.missing = 0
        self._blocks = blocks
        self._queue: Queue[Waveform | None] = Queue(AHEAD)
        self._held = np.zeros((0, 2), np.float32)
        self._all_read = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._decode, name="stemforge song")

    def __enter__(self) -> "Player":
        """Starts to decode, and waits for the first block."""
        self._thread.start()
        try:
            while self._queue.empty() and self._thread.is_alive():
                time.sleep(POLL_S)
        except BaseException:  # Ctrl-C, too: else the thread would go on forever
            self._closing.set()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()

    @property
    def ended(self) -> bool:
        """Whether all of the song has been read."""
        return self._all_read and not len(self._held)

    def read(self, samples: int) -> Waveform:
        """The next samples; zeros after the end, and where none are decoded yet."""
        while len(self._held) < samples and not self._all_read:
            try:
                block = self._queue.get_nowait()
            except Empty:
                self.missing += samples - len(self._held)
                break
            if block is None:
                self._all_read = True
            else:
                self._held = np.concatenate([self._held, block])
        out = np.zeros((samples, 2), np.float32)
        taken = self._held[:samples]
        out[: len(taken)] = taken
        self._held = self._held[samples:]
        return out

    def _decode(self) -> None:
        try:
            for block in self._blocks:
                for start in range(0, len(block), BLOCK_SAMPLES):
                    if not self._put(block[start : start + BLOCK_SAMPLES]):
                        return
        except BaseException as error:  # the caller raises it
            self.error = error
        self._put(None)

    def _put(self, block: Waveform | None) -> bool:
        """Waits for room; returns False where nobody reads any more."""
        while not self._closing.is_set():
            try:
                self._queue.put(block, timeout=WAIT_S)
            except Full:
                continue
            return True
        return False

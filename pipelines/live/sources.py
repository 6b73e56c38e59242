"""Songs that are played into a live separation as if a device heard them."""

import threading
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
WAIT_S = 0.1


def read_song(path: Path, *, sample_rate_hz: int) -> Iterator[Waveform]:
    """A song in stereo at another rate, in blocks of any size.

    Raises:
        UserError: it cannot be read, or has more than two channels.
    """
    info, blocks = stream_song(path)
    if info.channels > 2:
        raise UserError(f"{path}: {info.channels} channels: not supported: mix them to two first")
    resampler = Resampler(from_hz=info.sample_rate_hz, to_hz=sample_rate_hz, channels=2)
    for block in blocks:
        yield resampler.push(as_stereo(block))
    yield resampler.finish()


class Player:
    """Decodes ahead in a thread, and gives blocks of any size without waiting.

    Args:
        blocks: float32 [samples, 2] each.

    Attributes:
        error: what ended the decoding early; None: nothing has.
    """

    def __init__(self, blocks: Iterable[Waveform]) -> None:
        self.error: BaseException | None = None
        self._blocks = blocks
        self._queue: Queue[Waveform | None] = Queue(AHEAD)
        self._held = np.zeros((0, 2), np.float32)
        self._all_read = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._decode, name="stemforge song")

    def __enter__(self) -> "Player":
        self._thread.start()
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

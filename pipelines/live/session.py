"""A live separation that runs: the thread that separates what the callback hears."""

import threading
import time
from collections.abc import Callable, Mapping

import numpy as np

from stemforge.eval.separation.live import LiveSong
from stemforge.features.signal.stft import Waveform
from stemforge.pipelines.live.exchange import Exchange

WAIT_S = 0.1  # for sound, before it looks whether it should end


class Engine:
    """Separates in a thread of its own what an exchange hears.

    Args:
        start: starts a separation; also anew, after sound was lost.
        exchange: between the callback and this thread.
        record: gets all outputs, and the position in the sound of their first sample; None:
            nothing is recorded.

    Attributes:
        busy_s: seconds that the thread has computed.
        error: what ended the thread; None: nothing has.
    """

    def __init__(
        self,
        start: Callable[[], LiveSong],
        exchange: Exchange,
        record: Callable[[int, Mapping[str, Waveform]], None] | None,
    ) -> None:
        self.busy_s = 0.0
        self.error: BaseException | None = None
        self._start = start
        self._exchange = exchange
        self._to = record
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stemforge live")

    def __enter__(self) -> "Engine":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the thread; what it has heard is recorded to the end."""
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._separate()
        except BaseException as error:  # the caller raises it
            self.error = error

    def _separate(self) -> None:
        song, end = self._start(), 0
        ending = False
        while not ending:
            ending = self._ending.is_set()  # then it takes once more what has come
            if not ending and not self._exchange.wait(WAIT_S):
                continue
            start, block = self._exchange.take()
            if start != end:  # sound was lost between them
                self._flush(song, end)
                song = self._start()
            outputs = self._push(song, block)
            self._exchange.give(start, outputs)
            self._record(song, start, outputs)
            end = start + len(block)
        self._flush(song, end)

    def _flush(self, song: LiveSong, end: int) -> None:
        """Records what has been heard up to `end`, and waits in the engine."""
        if self._to is not None:
            rest = np.zeros((song.latency, self._exchange.channels), np.float32)
            self._record(song, end, self._push(song, rest))

    def _push(self, song: LiveSong, block: Waveform) -> Mapping[str, Waveform]:
        began = time.perf_counter()
        outputs = song.push(block)
        self.busy_s += time.perf_counter() - began
        return outputs

    def _record(self, song: LiveSong, start: int, outputs: Mapping[str, Waveform]) -> None:
        if self._to is not None:
            self._to(start - song.latency, outputs)

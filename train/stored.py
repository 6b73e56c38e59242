"""Windows of stored features: bytes read by offset, decoded on the device that trains on them."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from stemforge.errors import UserError
from stemforge.features.corpus.sources import MIXTURE, PHASE
from stemforge.features.shards import encoding_tf
from stemforge.features.shards.reading import Place, SplitReader
from stemforge.features.signal.framing import Framing
from stemforge.train.batch import Batch

# A compiled graph runs its five operations in one pass over memory: four times as fast.
_decode = tf.function(encoding_tf.decode, jit_compile=True, reduce_retracing=True)


@dataclass(frozen=True)
class StoredSource:
    """Makes batches of the magnitudes in a features folder.

    Attributes:
        reader: of the split.
        framing: of the STFT.
        stems: targets.
        window_frames: frames of a window.
        phases: whether batches hold the mixture's phases.
        waveforms: must be false: features hold no sound.
    """

    reader: SplitReader
    framing: Framing
    stems: tuple[str, ...]
    window_frames: int
    phases: bool
    waveforms: bool

    def __post_init__(self) -> None:
        """Refuses waveforms.

        Raises:
            UserError: they are wanted.
        """
        if self.waveforms:
            raise UserError("train.loss needs sound: set train.input=waveforms")

    def start(
        self, pool: Executor, places: Sequence[Place], device: str | None
    ) -> Callable[[], Batch]:
        """Starts reading a batch; the function that it returns waits for it.

        Args:
            pool: of reading threads.
            places: where the windows are.
            device: that decodes them; None: TensorFlow's default.

        Raises:
            UserError: (the returned function) a record is damaged, or there are no phases.
        """
        sources = (MIXTURE, *self.stems, *((PHASE,) if self.phases else ()))
        parts = {source: pool.submit(self._read, source, places, device) for source in sources}

        def take() -> Batch:
            found = {source: part.result() for source, part in parts.items()}
            mixture, phase = found.pop(MIXTURE), found.pop(PHASE, None)
            return Batch(mixture, found, phase, framing=self.framing)

        return take

    def _read(self, source: str, places: Sequence[Place], device: str | None) -> Any:
        """Reads in this thread, then decodes on the device: stored bytes are what it gets."""
        if source == PHASE:
            phases = self.reader.read_phases(places, self.window_frames)
            with tf.device(device):
                return tf.constant(phases)
        found = self.reader.read_stored(source, places, self.window_frames)
        with tf.device(device):
            return _decode(found.values, found.scales, found.segments)

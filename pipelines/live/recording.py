"""What is recorded of a live separation: WAV files in time with the mixture."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from stemforge.features.audio.files import open_wav
from stemforge.features.audio.formats import Subtype
from stemforge.features.signal.stft import Waveform


class Recorder:
    """WAV files that grow while the music plays.

    Args:
        paths: of the files, by the names of what is in them; their folders must exist.
        channels: of the sound.
        sample_rate_hz: of the sound.
        subtype: of the files.

    Raises:
        UserError: a file cannot be written.
    """

    def __init__(
        self, paths: Mapping[str, Path], *, channels: int, sample_rate_hz: int, subtype: Subtype
    ) -> None:
        self._written = 0
        self._files = ExitStack()
        self._writers = {
            name: self._files.enter_context(
                open_wav(path, channels=channels, sample_rate_hz=sample_rate_hz, subtype=subtype)
            )
            for name, path in paths.items()
        }

    def write(self, start: int, waves: Mapping[str, Waveform]) -> None:
        """Appends sound that belongs at a position; what is missing before it is silence.

        Args:
            start: position of the first sample; what lies before 0 is left out.
            waves: float32 [samples, channels] by name: at least those that have a file.
        """
        skipped = max(0, -start)
        missing = max(0, start - self._written)
        for name, writer in self._writers.items():
            wave = waves[name][skipped:]
            writer.write(np.zeros((missing, wave.shape[1]), np.float32))
            writer.write(wave)
            self._written = start + skipped + len(wave)

    def close(self) -> None:
        """Gives the files their names."""
        self._files.close()

"""What is recorded of a live separation: WAV files in time with the mixture."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import soundfile

from stemforge.errors import UserError
from stemforge.features.audio.files import open_wav
from stemforge.features.audio.formats import Subtype
from stemforge.features.signal.stft import Waveform


class Recorder:
    """WAV files that grow while the music plays.

    Args:
        paths: of the files, by the names of what is in them. Missing folders are made, and
            removed if they stay empty.
        channels: of the sound.
        sample_rate_hz: of the sound.
        subtype: of the files.
        keep: whether an error leaves the files as they are then. Files to which nothing was
            written are not left.

    Attributes:
        clipped: values above full scale that were clipped, by the files' names; those that have.

    Raises:
        UserError: a file cannot be written.
        OSError: a folder or a file cannot be made.
    """

    def __init__(
        self,
        paths: Mapping[str, Path],
        *,
        channels: int,
        sample_rate_hz: int,
        subtype: Subtype,
        keep: bool,
    ) -> None:
        self.clipped: dict[str, int] = {}
        self._written = 0
        self._paths = dict(paths)
        self._keep = keep
        with ExitStack() as files:  # closes those that are open if one cannot be opened
            for path in paths.values():
                for folder in [*path.parents][::-1]:
                    if not folder.exists():
                        folder.mkdir()
                        files.callback(_remove_empty, folder)
            self._writers = {
                name: files.enter_context(
                    open_wav(
                        path, channels=channels, sample_rate_hz=sample_rate_hz, subtype=subtype
                    )
                )
                for name, path in paths.items()
            }
            self._files = files.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Gives the files their names, or removes them."""
        if self._written and (self._keep or kind is None):
            self._files.close()
        else:
            error = error or UserError("nothing was written")
            self._files.__exit__(type(error), error, trace)

    def write(self, start: int, waves: Mapping[str, Waveform]) -> None:
        """Appends sound that belongs at a position; what is missing before it is silence.

        Args:
            start: position of the first sample; what is written already, or lies before 0, is left
                out.
            waves: float32 [samples, channels] by name: at least those that have a file.

        Raises:
            UserError: a file cannot be written.
        """
        skipped = max(0, self._written - start)
        missing = max(0, start - self._written)
        for name, writer in self._writers.items():
            wave = waves[name][skipped:]
            try:
                clipped = writer.write(np.pad(wave, ((missing, 0), (0, 0))))
            except soundfile.LibsndfileError as error:
                path = self._paths[name]
                raise UserError(f"{path}: cannot be written: {error.error_string}") from None
            if clipped:
                self.clipped[name] = self.clipped.get(name, 0) + clipped
        self._written = max(self._written, start + skipped + len(wave))


def _remove_empty(folder: Path) -> None:
    if not any(folder.iterdir()):
        folder.rmdir()

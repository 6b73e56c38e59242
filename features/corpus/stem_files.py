"""Writing .stem.mp4 files, MUSDB18's format, through ffmpeg."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stemforge.features.audio import ffmpeg
from stemforge.features.audio.formats import SAMPLE_RATE_HZ

BITRATE = 256_000  # of each AAC stream, as in MUSDB18


def write_stems(path: Path, streams: NDArray[np.float32], *, sources: Sequence[str]) -> None:
    """Writes a .stem.mp4 file with one AAC stream per source.

    Args:
        path: the final name, which the file gets when it is complete.
        streams: float32 [sources, samples, 2], the mixture first, at 44.1 kHz.
        sources: their names.
    """
    ffmpeg.put_ffmpeg_on_path()
    import stempeg

    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".stems-", suffix=".tmp") as folder:
        temporary = Path(folder) / path.name
        stempeg.write_stems(
            str(temporary),
            streams,
            sample_rate=SAMPLE_RATE_HZ,
            writer=stempeg.StreamsWriter(codec="aac", bitrate=BITRATE, stem_names=[*sources]),
        )
        temporary.rename(path)

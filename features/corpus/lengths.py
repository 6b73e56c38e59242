"""Lengths of a corpus' songs, from the files' headers."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from stemforge import storage
from stemforge.features.audio import ffmpeg
from stemforge.features.audio import files as audio
from stemforge.features.corpus.corpora import CorpusTrack
from stemforge.features.corpus.song_folders import WAV_SUFFIX
from stemforge.features.corpus.sources import MIXTURE

FILES = 8  # at a time; each is a short process, or a download


@dataclass(frozen=True)
class Length:
    """A song's length.

    Attributes:
        samples: per channel.
        sample_rate_hz: of its mixture, of whose files the longest counts.
    """

    samples: int
    sample_rate_hz: int

    @property
    def duration_s(self) -> float:
        """The length in seconds."""
        return self.samples / self.sample_rate_hz


def read_lengths(tracks: Iterable[CorpusTrack]) -> dict[str, Length | None]:
    """Lengths of the tracks' mixtures, as their files' headers state them.

    A decoder of AAC may give a few milliseconds more or less.

    Args:
        tracks: of a corpus, local or at a URL, from which the mixtures are downloaded.

    Returns:
        By track; None where a file of the mixture is missing, or not audio.
    """
    chosen = list(tracks)
    with ThreadPoolExecutor(FILES) as pool:
        found = pool.map(_read_length, chosen)
        return {track.name: length for track, length in zip(chosen, found, strict=True)}


def _read_length(track: CorpusTrack) -> Length | None:
    lengths = [_read_file(place) for place in track.files[MIXTURE]]
    found = [length for length in lengths if length is not None]
    return max(found, key=lambda length: length.samples) if len(found) == len(lengths) else None


def _read_file(place: str) -> Length | None:
    if storage.size(place) is None:
        return None
    with storage.local_copy(place) as path:
        try:
            is_wav = place.lower().endswith(WAV_SUFFIX)
            info = audio.file_info(path) if is_wav else ffmpeg.probe_streams(path)[0]
        except (ffmpeg.AudioError, IndexError):
            return None  # the scoring names it
    return None if info.samples is None else Length(info.samples, info.sample_rate_hz)

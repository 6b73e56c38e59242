"""Lengths of a corpus' songs, from the files' headers."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from stemforge import storage
from stemforge.errors import UserError
from stemforge.features.audio import files as audio
from stemforge.features.audio.ffmpeg import AudioInfo
from stemforge.features.corpus.corpora import CorpusTrack
from stemforge.features.corpus.sources import MIXTURE

FILES = 8  # at a time; each is a short process, or a download


def read_lengths(tracks: Iterable[CorpusTrack]) -> dict[str, AudioInfo | None]:
    """Lengths of the tracks' mixtures, as their files' headers state them.

    A decoder of AAC may give a few milliseconds more or less.

    Args:
        tracks: of a corpus, local or at a URL, from which the mixtures are downloaded.

    Returns:
        By track, what its longest file states; None where a file of the mixture is missing, not
        audio, or states no length.
    """
    chosen = list(tracks)
    with ThreadPoolExecutor(FILES) as pool:
        found = pool.map(_read_length, chosen)
        return {track.name: length for track, length in zip(chosen, found, strict=True)}


def _read_length(track: CorpusTrack) -> AudioInfo | None:
    found = [_read_header(place) for place in track.files[MIXTURE]]
    lengths = [(info.samples, info) for info in found if info and info.samples is not None]
    return max(lengths, key=lambda entry: entry[0])[1] if len(lengths) == len(found) else None


def _read_header(place: str) -> AudioInfo | None:
    if storage.size(place) is None:
        return None
    with storage.local_copy(place) as path:
        try:
            return audio.stream_song(path)[0]
        except UserError:
            return None  # the scoring names it

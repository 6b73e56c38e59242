"""The feature job's audio: from decoded WAV files, or from the corpus itself."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, cast

from stemforge import storage
from stemforge.errors import UserError
from stemforge.features.audio.formats import Subtype
from stemforge.features.corpus.corpora import CorpusTrack
from stemforge.features.corpus.decoding import decode_sources
from stemforge.features.corpus.manifest import Track, is_copy
from stemforge.features.corpus.sources import MIXTURE, MUSDB_STREAMS, STEM_SUFFIX

Files = dict[str, Path]


class TrackAudio(Protocol):
    """Gives local WAV files, one per source, for as long as they are needed."""

    def open(self, track: Track) -> AbstractContextManager[Files]:
        """Files by source, the mixture first."""
        ...


@dataclass(frozen=True)
class DecodedAudio:
    """The WAV files that stage decode wrote.

    Attributes:
        root: folder that the manifest's paths are relative to, local or a URL.
        copies: the same of the manifest of copies; empty where there are none.
    """

    root: str
    copies: str = ""

    @contextmanager
    def open(self, track: Track) -> Iterator[Files]:
        """Files by source; temporary copies where they are not local."""
        root = self.copies if is_copy(track.name) else self.root
        places = {source.name: storage.join(root, source.path) for source in track.sources}
        with _fetch(places) as files:
            yield files


@dataclass(frozen=True)
class CorpusAudio:
    """The corpus' own files, decoded where they are needed.

    Attributes:
        tracks: the corpus' tracks by name.
        subtype: what files other than WAV are decoded to.
    """

    tracks: Mapping[str, CorpusTrack]
    subtype: Subtype

    @contextmanager
    def open(self, track: Track) -> Iterator[Files]:
        """Files by source, in a temporary folder."""
        with open_corpus_track(self.tracks[track.name], self.subtype) as files:
            yield files


@dataclass(frozen=True)
class MeasuredAudio:
    """The files of a remote corpus as stage decode measured them, decoded where they are needed.

    Attributes:
        root: folder that the manifest's paths are relative to: the corpus, or a copy of it.
    """

    root: str

    @contextmanager
    def open(self, track: Track) -> Iterator[Files]:
        """Files by source, in a temporary folder.

        Raises:
            UserError: a file is not the one that was measured.
        """
        places = {source.name: storage.join(self.root, source.path) for source in track.sources}
        is_stem_file = places[MIXTURE].lower().endswith(STEM_SUFFIX)
        streams = {name: (MUSDB_STREAMS[name],) for name in places} if is_stem_file else {}
        decoded = bool(track.ffmpeg)  # whether ffmpeg is part of how the samples came about
        found = CorpusTrack(track.name, track.split, {}, streams, True, is_decoded=decoded)
        subtype = cast("Subtype", track.sources[0].subtype)
        with ExitStack() as stack:
            copies = {
                place: stack.enter_context(storage.local_copy(place))
                for place in {*places.values()}
            }
            for source in track.sources:
                place = places[source.name]
                if storage.file_sha256(copies[place]) != source.file_sha256:
                    raise UserError(f"{place}: changed since stage decode: dvc repro decode")
            files = {name: (str(copies[place]),) for name, place in places.items()}
            yield stack.enter_context(open_corpus_track(replace(found, files=files), subtype))


def scored_subtype(track: CorpusTrack) -> Subtype:
    """What a track's sources are decoded to where they are scored.

    Streams as musdb reads them, with 16 bits; sums are neither rounded nor clipped.
    """
    return "PCM_16" if track.streams and not track.is_summed else "FLOAT"


@contextmanager
def open_corpus_track(track: CorpusTrack, subtype: Subtype) -> Iterator[Files]:
    """A corpus track's WAV files by source; others are decoded into a temporary folder."""
    if not track.is_decoded:
        with _fetch({name: place for name, (place,) in track.files.items()}) as files:
            yield files
        return
    with tempfile.TemporaryDirectory(prefix="stemforge-") as scratch:
        wavs = decode_sources(track, Path(scratch), subtype)
        yield {name: wav.local for name, wav in wavs.items()}


@contextmanager
def _fetch(places: Mapping[str, str]) -> Iterator[Files]:
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(storage.local_copy(place)) for name, place in places.items()
        }

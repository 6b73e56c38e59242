"""The folder of one song: which stems are in it, and where their files are."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from stemforge import storage
from stemforge.errors import UserError
from stemforge.features.corpus.sources import STEM_SUFFIX

WAV_SUFFIX = ".wav"
MOISES_JSON = "data.json"  # MoisesDB's list of a song's files (moisesdb/track.py, _parse_sources)
DEPTH = 3  # of a file below the folder of all songs: SONG/STEM/FILE.wav


@dataclass(frozen=True)
class Stem:
    """A stem as a song of the corpus has it.

    Attributes:
        name: as it is written there, of its file or folder.
        files: places of the files that it is the sum of.
    """

    name: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class SongFolder:
    """A folder with the stems of a song.

    Attributes:
        place: of the folder.
        files: places below it, relative to it.
    """

    place: str
    files: tuple[str, ...]

    @property
    def own(self) -> list[str]:
        """The files in the folder itself."""
        return [file for file in self.files if "/" not in file]

    @property
    def has_wavs(self) -> bool:
        """Whether there is any WAV file in it, at any depth."""
        return any(map(_is_wav, self.files))

    def is_song(self, names: Collection[str]) -> bool:
        """Whether stems lie in it: WAV files, MoisesDB's list, or folders of these (folded) names.

        A folder of any other folders with WAV files may as well hold songs.
        """
        if MOISES_JSON in self.own or any(map(_is_wav, self.own)):
            return True
        return any(storage.folded(name) in names for name in self._wav_folders())

    def _wav_folders(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for file in self.files:
            name, _, inner = file.partition("/")
            if inner and "/" not in inner and _is_wav(inner):
                found.setdefault(name, []).append(storage.join(self.place, file))
        return found

    def stems(self, names: Collection[str]) -> dict[str, Stem]:
        """The stems, and a mixture where there is one, by folded name.

        Args:
            names: folded names that matter; of others two spellings may be there.

        Raises:
            UserError: one of these names is there twice, or MoisesDB's list cannot be read.
        """
        found: dict[str, Stem] = {}
        folders = self._listed_by_moises() or self._wav_folders()
        for stem, shown in (
            *((_own_stem(self.place, file), file) for file in filter(_is_wav, self.own)),
            *((Stem(name, tuple(files)), f"{name}/") for name, files in folders.items()),
        ):
            folded = storage.folded(stem.name)
            other = found.setdefault(folded, stem)
            if other is not stem and folded in names:
                first = storage.name(other.files[0]) if len(other.files) == 1 else other.name
                raise UserError(f"{self.place}: both {first} and {shown}: remove one")
        return found

    def _listed_by_moises(self) -> dict[str, list[str]]:
        """The files by stem in MoisesDB's list, whether they are there or not; {} without one."""
        if MOISES_JSON not in self.own:
            return {}
        place = storage.join(self.place, MOISES_JSON)
        try:
            return _files_by_stem(json.loads(storage.read_bytes(place)), self.place)
        except (ValueError, TypeError, KeyError, AttributeError):
            if any(map(_is_wav, self.own)):
                return {}  # somebody's own file of that name
            raise UserError(
                f"{place}: not MoisesDB's list of a song's stems: restore it, or remove it where "
                "folders of WAV files are the stems"
            ) from None


def _is_wav(file: str) -> bool:
    return file.lower().endswith(WAV_SUFFIX)


def _own_stem(folder: str, file: str) -> Stem:
    return Stem(file[: -len(WAV_SUFFIX)], (storage.join(folder, file),))


def _files_by_stem(listed: Mapping[str, Any], folder: str) -> dict[str, list[str]]:
    """MoisesDB's {"stems": [{"stemName", "tracks": [{"id", "extension"}]}]} as places."""
    found: dict[str, list[str]] = {}
    for stem in listed["stems"]:
        name = stem["stemName"]
        for track in stem["tracks"]:
            file = f"{track['id']}.{track['extension']}"
            if "/" in name + file:
                raise ValueError(f"{name}/{file}: not a file of the song")
            found.setdefault(name, []).append(storage.join(folder, name, file))
    return found


def list_songs(folder: str) -> tuple[list[SongFolder], list[str]]:
    """The songs in a folder: folders, and places of .stem.mp4 files.

    An empty folder and a dead link are songs too: their stems are missing.
    """
    names = storage.list_files(folder, depth=DEPTH)
    songs: dict[str, list[str]] = {}
    stem_files = []
    for name in (*names, *storage.empty_entries(folder)):
        song, _, inside = name.partition("/")
        if inside:
            songs.setdefault(song, []).append(inside)
        elif name.lower().endswith(STEM_SUFFIX):
            stem_files.append(storage.join(folder, name))
        elif name not in names:
            songs[name] = []
    folders = [SongFolder(storage.join(folder, n), tuple(f)) for n, f in songs.items()]
    return folders, stem_files

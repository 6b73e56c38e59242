"""Finding the tracks of a corpus: in train/ and test/ or a flat folder, files or folders."""

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from stemforge import storage
from stemforge.errors import UserError
from stemforge.features.corpus.manifest import Split, choose_share, choose_valid
from stemforge.features.corpus.song_folders import (
    MOISES_JSON,
    WAV_SUFFIX,
    SongFolder,
    Stem,
    list_songs,
)
from stemforge.features.corpus.sources import MIXTURE, MUSDB_STREAMS, STEM_SUFFIX, parts_of
from stemforge.text import brief

SPLITS: tuple[Split, ...] = ("train", "test")  # folders of a corpus
MOST_FOLDERS = 100  # that are searched for the corpus that a user may mean


@dataclass(frozen=True)
class CorpusTrack:
    """A track as the corpus holds it.

    Attributes:
        name: unique in the corpus, as storage.comparable gives it.
        split: "train", "valid" or "test".
        files: places per source, whose sum the source is; the mixture of a song without one is the
            sum of all the others. For all sources the same .stem.mp4 file, or files of their own.
        streams: audio streams per source inside a .stem.mp4; empty where sources have files.
        is_complete: whether these are all stems, so that they should add up to the mixture.
        is_decoded: whether its sources are decoded to WAV files, or are such files. This is so
            for all tracks of a corpus or for none, since the manifest's paths start at one folder.
    """

    name: str
    split: Split
    files: Mapping[str, tuple[str, ...]]
    streams: Mapping[str, tuple[int, ...]]
    is_complete: bool
    is_decoded: bool = False

    @property
    def places(self) -> list[str]:
        """All its files, once each."""
        return [*dict.fromkeys(place for files in self.files.values() for place in files)]

    @property
    def is_summed(self) -> bool:
        """Whether a source is the sum of several files or streams."""
        return any(len(parts) > 1 for parts in (*self.files.values(), *self.streams.values()))


@dataclass(frozen=True)
class Labels:
    """What errors call the user's settings; by default as params.yaml does.

    Attributes:
        root: the corpus.
        stems: what stands before the name of a stem.
        mapping: what stands before the name of a source in the mapping.
        can_map: whether the user can choose stems and a mapping.
    """

    root: str
    stems: str = "corpus.stems="
    mapping: str = "corpus.mapping: "
    can_map: bool = True


def has_splits(root: str) -> bool:
    """Whether a corpus has train/ or test/; else it is a flat folder of songs."""
    return bool({*SPLITS} & {*storage.folders(root)})


def find_tracks(
    root: str,
    *,
    stems: Sequence[str],
    mapping: Mapping[str, Sequence[str]] | None = None,
    labels: Labels | None = None,
    remark: Callable[[str], None] | None = None,
) -> list[CorpusTrack]:
    """Lists a corpus of songs: .stem.mp4 files, or folders of WAV files.

    The songs are in train/ and test/, as in MUSDB18 and MUSDB18-HQ, or in the folder itself. A
    song's folder holds a file STEM.wav for each stem, or, as in MoisesDB, a folder STEM/ with
    several files, which are summed. A song without a mixture file has the sum of its stems, all of
    which are then needed.

    Args:
        root: the folder, local or a URL.
        stems: names of the stems that are wanted.
        mapping: see `parts_of`; with one, all stems of the corpus must be part of a stem.
        labels: what errors call these.
        remark: gets a sentence on folders that are left out, because they are no songs.

    Returns:
        Tracks sorted by split and name; no audio file has been opened. Without train/ and test/
        all tracks are test tracks; see `choose_test`.

    Raises:
        UserError: no such folder, no tracks in it but perhaps above or below it, tracks in more
            than one layout, two of one name, or stems and mapping that are not the corpus'.
    """
    labels = labels or Labels(f"corpus.root={root}")
    try:
        parts = parts_of(stems, mapping)
    except UserError as error:
        raise UserError(f"{labels.mapping}{error}") from None
    if not storage.is_folder(root):
        raise UserError(f"{labels.root}: no such folder")
    names = {storage.folded(name) for part in parts.values() for name in part}
    is_flat = not has_splits(root)
    folders, files = _list_layout(root, names, labels, is_flat=is_flat)
    stems_there = [(split, song, song.stems(names)) for split, song in folders]
    if is_flat:
        stems_there = _leave_out(stems_there, names, labels, remark, needs_one=not files)
    if stems_there and files:
        kinds = f"a {STEM_SUFFIX} file ({files[0][1]}) and a folder ({stems_there[0][1].place})"
        raise UserError(f"{labels.root}: holds {kinds}: keep one kind of song")
    if files:
        _check_streams(stems, parts, mapping, labels)
        return checked(_stem_file(file, split, parts) for split, file in files)
    if mapping:
        _check_mapping([there for _, _, there in stems_there], parts, labels)
    whole = bool(mapping) or {*stems} >= MUSDB_STREAMS.keys() - {MIXTURE}
    tracks = [_song_track(*found, parts, is_complete=whole) for found in stems_there]
    _check_mixtures(stems_there, names, labels)
    return checked(tracks)


def _list_layout(
    root: str, names: Collection[str], labels: Labels, *, is_flat: bool
) -> tuple[list[tuple[Split, SongFolder]], list[tuple[Split, str]]]:
    """The songs with their splits: folders, and .stem.mp4 files.

    Raises:
        UserError: there are none, or some beside train/ and test/.
    """
    songs, files = list_songs(root)
    for song in songs:
        split = storage.name(song.place)
        if split not in SPLITS and split.casefold() in SPLITS and not song.is_song(names):
            raise UserError(
                f"{labels.root}: {split}/ would be left out: rename it to {split.casefold()}/"
            )
    if is_flat:
        if not files and (_is_one_song(root, songs, names) or not _any_song(songs, names)):
            raise UserError(f"{labels.root}: {_explain_none(root, names)}")
        if storage.name(storage.absolute(root)) in SPLITS:
            above = storage.parent(storage.absolute(root))
            raise UserError(f"{labels.root}: one split of a corpus: name the folder above, {above}")
        kept = [song for song in songs if not song.files or song.has_wavs or song.is_song(names)]
        return [("test", song) for song in kept], [("test", file) for file in files]
    beside = [song.place for song in songs if song.is_song(())] + files
    beside = [place for place in beside if storage.name(place) not in SPLITS]
    if beside:
        raise UserError(
            f"{labels.root}: {storage.name(beside[0])} is beside train/ and test/: move it into "
            "one of them, or out of the folder"
        )
    found: list[tuple[Split, SongFolder]] = []
    stem_files: list[tuple[Split, str]] = []
    for split in SPLITS:
        songs, files = list_songs(storage.join(root, split))
        kept = [song for song in songs if not song.files or song.has_wavs or song.own]
        found += [(split, song) for song in kept]
        stem_files += [(split, file) for file in files]
    if not found and not stem_files:
        raise UserError(f"{labels.root}: {_explain_none(root, names)}")
    return found, stem_files


def _leave_out(
    songs: Sequence[tuple[Split, SongFolder, dict[str, Stem]]],
    names: set[str],
    labels: Labels,
    remark: Callable[[str], None] | None,
    *,
    needs_one: bool,
) -> list[tuple[Split, SongFolder, dict[str, Stem]]]:
    """Those of a flat folder's folders that have a wanted stem or a mixture, or nothing yet.

    Raises:
        UserError: there is no song without the others.
    """
    kept = [entry for entry in songs if not entry[1].files or entry[2].keys() & names]
    others = [(song, stems) for _, song, stems in songs if song.files and not stems.keys() & names]
    if needs_one and others and not any(song.files for _, song, _ in kept):
        there = sorted({stem.name for _, stems in others for stem in stems.values()})
        only = brief(", ".join(there)) if there else "no WAV file of its own"
        raise UserError(
            f"{labels.root}: no song has any of {', '.join(sorted(names))}, only {only} (in "
            f"{others[0][0].place}): correct the stems, or name another folder"
        )
    if others and remark:
        what = "a folder" if len(others) == 1 else f"{len(others)} folders"
        listed = brief(", ".join(storage.name(song.place) for song, _ in others))
        remark(f"{labels.root}: left out {what} without a wanted stem or a mixture: {listed}")
    return kept


def _explain_none(root: str, names: Collection[str]) -> str:
    """Why a folder has no songs, and which folder may be meant."""
    here = SongFolder(root, tuple(storage.list_files(root, depth=2)))
    if here.is_song(names):  # also where _is_one_song
        above = storage.parent(storage.absolute(root))
        while storage.name(above) in SPLITS or storage.size(storage.join(above, MOISES_JSON)):
            above = storage.parent(above)
        return f"a song or a part of one: name the folder of all songs, {above}"
    below = [root]
    for levels in ("one level", "two levels"):
        inner = (storage.join(f, name) for f in below for name in storage.folders(f))
        below = [*itertools.islice(inner, MOST_FOLDERS)]
        if meant := [folder for folder in below if _holds_songs(folder, names)]:
            more = f" or {' or '.join(meant[1:3])}" if meant[1:] else ""
            return f"no songs in it, but {levels} deeper: name {meant[0]}{more}"
    return (
        f"no tracks: expected *{STEM_SUFFIX} files or folders of WAV files in its train/ and "
        "test/, or in the folder itself"
    )


def _holds_songs(folder: str, names: Collection[str]) -> bool:
    if any(name.casefold() in SPLITS for name in storage.folders(folder)):
        return True
    songs, files = list_songs(folder)
    return bool(files) or _any_song(songs, names)


def _any_song(songs: Iterable[SongFolder], names: Collection[str]) -> bool:
    return any(song.is_song(names) for song in songs)


def _is_one_song(root: str, songs: Iterable[SongFolder], names: Collection[str]) -> bool:
    """Whether what looks like a folder of songs is MoisesDB's folder of one, with its stems."""
    if storage.size(storage.join(root, MOISES_JSON)) is not None:
        return True
    folders = [storage.folded(storage.name(song.place)) for song in songs]
    return bool(folders) and {*folders} <= {*names}


def _song_track(
    split: Split,
    song: SongFolder,
    there: Mapping[str, Stem],
    parts: Mapping[str, tuple[str, ...]],
    *,
    is_complete: bool,
) -> CorpusTrack:
    """A song's track. A source that is missing has a place without a file, which decoding names."""
    files = {}
    for source, names in parts.items():
        found = [there[key] for key in map(storage.folded, names) if key in there]
        places = tuple(place for stem in found for place in stem.files)
        files[source] = places or (storage.join(song.place, f"{names[0]}.wav"),)
    wanted = {source: [*map(storage.folded, names)] for source, names in parts.items()}
    missing = [source for source, keys in wanted.items() if not {*keys} & there.keys()]
    rest = there.keys() - {key for keys in wanted.values() for key in keys}
    if missing == [MIXTURE] and not rest and len(parts) > 2:
        stems = [files[source] for source in files if source != MIXTURE]
        files[MIXTURE] = tuple(place for places in stems for place in places)
        is_complete = True
    elif missing[:1] == [MIXTURE] and missing[1:]:
        files[MIXTURE] = files[missing[1]]  # the stem is named first
    return CorpusTrack(storage.name(song.place), split, files, {}, is_complete)


def _check_mapping(
    songs: Iterable[Mapping[str, Stem]], parts: Mapping[str, tuple[str, ...]], labels: Labels
) -> None:
    """Refuses a mapping of what no song has, or without what a song has."""
    corpus = {key: stem.name for there in songs for key, stem in there.items()}
    mapped = {storage.folded(name): source for source, names in parts.items() for name in names}
    for source, names in parts.items():
        for name in names:
            if storage.folded(name) not in corpus and name != MIXTURE:
                raise UserError(
                    f"{labels.mapping}{source}: no song has {name}, only "
                    f"{brief(', '.join(sorted(corpus.values())))}: correct or remove it"
                )
    if rest := sorted(name for key, name in corpus.items() if key not in {*mapped, MIXTURE}):
        raise UserError(
            f"{labels.mapping}{rest[0]}: songs have it, and no stem is mapped from it: add it to "
            "one"
        )


def _check_mixtures(
    songs: Iterable[tuple[Split, SongFolder, dict[str, Stem]]],
    names: set[str],
    labels: Labels,
) -> None:
    """Refuses a corpus without any mixture, and with stems that its sum would lack."""
    without: tuple[str, str] | None = None
    for _, song, there in songs:
        rest = [stem.name for key, stem in there.items() if key not in {*names, MIXTURE}]
        if MIXTURE in there or not rest:
            return
        without = without or (rest[0], song.place)
    if without:
        advice = f"name it in the stems, or map it to one ({labels.mapping.rstrip(': ')})"
        if not labels.can_map:
            known = brief(", ".join(sorted(names - {MIXTURE})))
            advice = f"use songs with a file mixture.wav, or with no other stems than {known}"
        raise UserError(
            f"{labels.root}: no song has a mixture, and the sum of the stems would lack "
            f"{without[0]} (in {without[1]}): {advice}"
        )


def _check_streams(
    stems: Sequence[str],
    parts: Mapping[str, tuple[str, ...]],
    mapping: Mapping[str, Sequence[str]] | None,
    labels: Labels,
) -> None:
    """Refuses stems and a mapping that are not those of .stem.mp4 files."""
    has = f"{STEM_SUFFIX} files hold drums, bass, other and vocals"
    for source, names in parts.items():
        for name in names:
            if name not in MUSDB_STREAMS:
                label = f"{labels.mapping}{source}: {name}" if mapping else labels.stems + name
                raise UserError(f"{label}: {has}")
    rest = MUSDB_STREAMS.keys() - {name for names in parts.values() for name in names}
    if mapping and rest:
        raise UserError(f"{labels.mapping}{min(rest)}: no stem is mapped from it: add it to one")


def _stem_file(path: str, split: Split, parts: Mapping[str, tuple[str, ...]]) -> CorpusTrack:
    return CorpusTrack(
        storage.name(path)[: -len(STEM_SUFFIX)],
        split,
        dict.fromkeys(parts, (path,)),
        {source: tuple(MUSDB_STREAMS[name] for name in names) for source, names in parts.items()},
        {name for names in parts.values() for name in names} == MUSDB_STREAMS.keys(),
    )


def checked(tracks: Iterable[CorpusTrack]) -> list[CorpusTrack]:
    """The tracks sorted by split and name, and whether all must be decoded.

    Raises:
        UserError: two names are the same, or differ only by upper and lower case: one folder or
            file of another computer could not hold both.
    """
    named = (replace(track, name=storage.comparable(track.name)) for track in tracks)
    ordered = sorted(named, key=lambda track: (track.split, track.name))
    in_place = all(
        not track.is_summed and all(place.lower().endswith(WAV_SUFFIX) for place in track.places)
        for track in ordered
    )
    if not in_place:
        ordered = [replace(track, is_decoded=True) for track in ordered]
    first: dict[str, CorpusTrack] = {}
    for track in ordered:
        other = first.setdefault(storage.folded(track.name), track)
        if other is not track:
            files = " and ".join(t.files[MIXTURE][0] for t in (other, track))
            raise UserError(f"track {track.name!r}: two have this name: {files}: rename one")
    return ordered


def choose_test(tracks: Sequence[CorpusTrack], *, share: float) -> list[CorpusTrack]:
    """Makes a share of a flat folder's songs test songs, and the others training songs.

    Args:
        tracks: all songs.
        share: in (0, 1); see `choose_share`.
    """
    chosen = choose_share([track.name for track in tracks], share)
    return [replace(track, split="test" if track.name in chosen else "train") for track in tracks]


def hold_out_valid(
    tracks: Sequence[CorpusTrack], *, share: float, official: Sequence[str]
) -> list[CorpusTrack]:
    """Moves training tracks to the valid split, unless the corpus names its own."""
    if any(track.split == "valid" for track in tracks):
        return list(tracks)
    train = [track.name for track in tracks if track.split == "train"]
    chosen = choose_valid(train, share=share, official=official)
    return [replace(track, split="valid") if track.name in chosen else track for track in tracks]

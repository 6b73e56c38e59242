"""The tracks that params.yaml or a command's --corpus names."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stemforge import storage
from stemforge.errors import UserError
from stemforge.features.audio.ffmpeg import AudioInfo
from stemforge.features.corpus.corpora import (
    CorpusTrack,
    Labels,
    choose_test,
    find_tracks,
    has_splits,
    hold_out_valid,
)
from stemforge.features.corpus.csv_files import read_csvs
from stemforge.features.corpus.lengths import read_lengths
from stemforge.features.corpus.manifest import Split, Track
from stemforge.features.corpus.musdb18 import (
    MUSDB_VALIDATION_TRACKS,
    are_wavs,
    recognise_test_set,
)
from stemforge.features.corpus.song_folders import MOISES_JSON
from stemforge.features.corpus.sources import STEMS
from stemforge.pipelines.console import say
from stemforge.pipelines.running.named_corpora import resolve_name

if TYPE_CHECKING:
    from stemforge.pipelines.params import Corpus  # commands have no params.yaml


def list_corpus(corpus: "Corpus") -> list[CorpusTrack]:
    """The corpus' tracks, with test tracks of a flat folder and validation tracks held out.

    Raises:
        UserError: the corpus is not as params.yaml says.
    """
    root = corpus.root
    if corpus.train_csv is None:
        tracks = _list_folder(corpus)
    else:
        named: dict[Split, str | None] = {
            "train": corpus.train_csv,
            "valid": corpus.validation_csv,
            "test": corpus.test_csv,
        }
        csvs = {split: storage.join(root, name) for split, name in named.items() if name}
        tracks = read_csvs(csvs, root=root, stems=corpus.stems, mapping=corpus.mapping)
    tracks = hold_out_valid(tracks, share=corpus.valid_share, official=MUSDB_VALIDATION_TRACKS)
    if [track.split for track in tracks if track.split != "test"] == ["train"]:
        csv = corpus.train_csv is not None
        say(
            f"corpus.valid_share={corpus.valid_share}: the only training track, "
            f"{tracks[-1].name}, is not held out for validation, so nothing can be trained: "
            + ("name a corpus.validation_csv" if csv else "add a song to the corpus' train/")
        )
    return tracks


def _list_folder(corpus: "Corpus") -> list[CorpusTrack]:
    root, share = corpus.root, corpus.test_share
    tracks = find_tracks(root, stems=corpus.stems, mapping=corpus.mapping, remark=say)
    if has_splits(root):
        if share is not None:
            raise UserError(
                f"corpus.test_share={share}: {root} has train/ or test/, which say what is tested: "
                "set it to null"
            )
        return tracks
    if share is None:
        raise UserError(
            f"corpus.test_share=null: {root} has neither train/ nor test/: set the share of its "
            f"{len(tracks)} songs that become test songs, such as 0.2"
        )
    return choose_test(tracks, share=share)


def find_test_tracks(
    corpus: str,
    stems: Sequence[str],
    mapping: Mapping[str, Sequence[str]] | None = None,
    *,
    can_map: bool = True,
) -> tuple[list[CorpusTrack], dict[str, AudioInfo | None]]:
    """Lists the test tracks for a command; errors name its options, not those of params.yaml.

    Args:
        corpus: folder with test/ in it, or of test songs; local or a URL; or musdb18-7.
        stems: names of its stems.
        mapping: see `parts_of`.
        can_map: whether the command has the options --stems and --mapping.

    Returns:
        The tracks, and their `known_lengths`.

    Raises:
        UserError: no such folder, no test tracks in it, or it has other stems.
    """
    label = f"--corpus {corpus}"
    root = storage.absolute(resolve_name(corpus, label=label))
    labels = Labels(label, "--stems ", "--mapping ", can_map=can_map)
    found = find_tracks(root, stems=stems, mapping=mapping, labels=labels, remark=say)
    tracks = [track for track in found if track.split == "test"]
    if not tracks:
        raise UserError(f"{labels.root}: no tracks in its test/")
    lengths = known_lengths(root, found)
    say(describe_found(root, found, lengths))
    return tracks, lengths


def known_lengths(root: str, tracks: Sequence[CorpusTrack]) -> dict[str, AudioInfo | None]:
    """What the test songs' headers state, by name; nothing of a corpus at a URL."""
    if not storage.is_local(root):
        return {}  # each file would be downloaded
    return read_lengths(track for track in tracks if track.split == "test")


def describe_corpus(
    label: str, songs: Mapping[Split, int], test_durations_s: Sequence[float]
) -> str:
    """One sentence that says what a corpus is.

    Args:
        label: its name or its folder.
        songs: how many in each split; a split without songs may be left out.
        test_durations_s: lengths of the test songs in seconds.

    Returns:
        Such as "MUSDB18-7: 94 training songs (14 of them validation), 50 test songs of 6.8 s".
    """
    valid, test = songs.get("valid", 0), songs.get("test", 0)
    held_out = f" ({valid} of them validation)" if valid else ""
    training = _count(songs.get("train", 0) + valid, "training song")
    of = ""
    if test_durations_s:
        shortest, longest = min(test_durations_s), max(test_durations_s)
        digits = 1 if longest < 10 else 0
        lengths = dict.fromkeys((f"{shortest:.{digits}f}", f"{longest:.{digits}f}"))
        of = f" of {' to '.join(lengths)} s"
    return f"{label}: {training}{held_out}, {_count(test, 'test song')}{of}"


def describe_tracks(root: str, tracks: Sequence[Track], *, layout: str = "") -> str:
    """The same of tracks with known lengths; test songs of MUSDB18 give the corpus its name.

    Args:
        root: of the corpus.
        tracks: of all splits.
        layout: see `name_layout`.
    """
    test = [track for track in tracks if track.split == "test"]
    test_s = {track.name: track.duration_s for track in test}
    wavs = are_wavs([source.file_sha256 for source in track.sources] for track in test)
    name = recognise_test_set(test_s, wavs=wavs).name
    label = name or (f"{root} ({layout})" if layout else root)
    return describe_corpus(label, Counter(track.split for track in tracks), [*test_s.values()])


def describe_found(
    root: str, tracks: Sequence[CorpusTrack], lengths: Mapping[str, AudioInfo | None]
) -> str:
    """The same of tracks as a corpus holds them.

    Args:
        root: of the corpus.
        tracks: of all splits.
        lengths: of test songs, as far as they are known.
    """
    test = [track for track in tracks if track.split == "test"]
    test_s = {name: length.seconds for name, length in lengths.items() if length}
    name = ""
    if len(test_s) == len(test):
        wavs = are_wavs(track.files.values() for track in test)
        name = recognise_test_set(test_s, wavs=wavs).name
    layout = name_layout(root, tracks)
    label = name or (f"{root} ({layout})" if layout else root)
    return describe_corpus(label, Counter(track.split for track in tracks), [*test_s.values()])


def name_layout(root: str, tracks: Sequence[CorpusTrack]) -> str:
    """How the songs lie in a folder: "MoisesDB", "a flat folder of songs", or empty for others."""
    first = tracks[0].places if tracks and not tracks[0].streams else []
    for song in dict.fromkeys(storage.parent(storage.parent(place)) for place in first):
        if storage.size(storage.join(song, MOISES_JSON)) is not None:
            return "MoisesDB"
    return "" if has_splits(root) else "a flat folder of songs"


def describe_musdb(folder: Path) -> str:
    """The same of a folder of MUSDB's songs, with musdb's own validation songs, if all are there.

    Raises:
        UserError: there are no songs in it.
    """
    tracks = find_tracks(str(folder), stems=STEMS)
    if {*MUSDB_VALIDATION_TRACKS} <= {track.name for track in tracks}:
        tracks = hold_out_valid(tracks, share=0.0, official=MUSDB_VALIDATION_TRACKS)
    return describe_found(str(folder), tracks, known_lengths(str(folder), tracks))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"

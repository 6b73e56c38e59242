"""The tracks that params.yaml or a command's --corpus names."""

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from stemforge import storage
from stemforge.errors import UserError
from stemforge.features.audio import ffmpeg
from stemforge.features.corpus.corpora import (
    MUSDB_VALIDATION_TRACKS,
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
from stemforge.features.corpus.musdb18 import are_wavs, recognise_test_set
from stemforge.features.corpus.song_folders import MOISES_JSON
from stemforge.features.corpus.sources import STEM_SUFFIX
from stemforge.pipelines.console import say
from stemforge.pipelines.running.musdb18_7 import resolve_name

if TYPE_CHECKING:
    from stemforge.pipelines.params import Corpus  # commands have no params.yaml

PROBES = 4  # at a time: they wait for programs


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
) -> list[CorpusTrack]:
    """Lists the test tracks for a command; errors name its options, not those of params.yaml.

    Args:
        corpus: folder with test/ in it, or of test songs; local or a URL; or musdb18-7.
        stems: names of its stems.
        mapping: see `parts_of`.
        can_map: whether the command has the options --stems and --mapping.

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
    say(describe_found(root, found))
    return tracks


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


def describe_found(root: str, tracks: Sequence[CorpusTrack]) -> str:
    """The same of tracks as a corpus holds them; lengths are read where it is on this machine.

    Args:
        root: of the corpus.
        tracks: of all splits.
    """
    test = [track for track in tracks if track.split == "test"]
    read = read_lengths(test) if storage.is_local(root) else {}
    test_s = {name: length.duration_s for name, length in read.items() if length}
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


def describe_files(label: str, train: Sequence[Path], test: Sequence[Path]) -> str:
    """The same of .stem.mp4 files, from the lengths that the test songs state.

    Its validation songs are musdb's own, where all of these are there.

    Raises:
        UserError: a test song is not audio.
    """
    official = {f"{name}{STEM_SUFFIX}" for name in MUSDB_VALIDATION_TRACKS}
    valid = len(official) if official <= {path.name for path in train} else 0
    with ThreadPoolExecutor(PROBES) as pool:
        lengths = [*pool.map(_stated_seconds, test)]
    songs: dict[Split, int] = {"train": len(train) - valid, "valid": valid, "test": len(test)}
    return describe_corpus(label, songs, lengths)


def _stated_seconds(file: Path) -> float:
    try:
        streams = ffmpeg.probe_streams(file)
    except ffmpeg.AudioError as error:
        raise UserError(f"{file}: {error}") from None
    if not streams or streams[0].samples is None:
        raise UserError(f"{file}: states no length: fetch it again, or remove it")
    return streams[0].seconds


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"

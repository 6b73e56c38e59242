"""The tracks that params.yaml or a command's --corpus names."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from stemforge import storage
from stemforge.errors import UserError
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
from stemforge.features.corpus.manifest import Split
from stemforge.pipelines.console import say

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
    tracks = find_tracks(root, stems=corpus.stems, mapping=corpus.mapping)
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
    corpus: str, stems: Sequence[str], mapping: Mapping[str, Sequence[str]] | None = None
) -> list[CorpusTrack]:
    """Lists the test tracks for a command; errors name its options, not those of params.yaml.

    Args:
        corpus: folder with test/ in it, or of test songs; local or a URL.
        stems: names of its stems.
        mapping: see `parts_of`.

    Raises:
        UserError: no such folder, no test tracks in it, or it has other stems.
    """
    root = storage.absolute(corpus)
    labels = Labels(f"--corpus {corpus}", "--stems ", "--mapping ")
    found = find_tracks(root, stems=stems, mapping=mapping, labels=labels)
    tracks = [track for track in found if track.split == "test"]
    if not tracks:
        raise UserError(f"{labels.root}: no tracks in its test/")
    return tracks

"""The tracks that params.yaml or a command's --corpus names."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stemforge import storage
from stemforge.errors import UserError
from stemforge.features.corpus.corpora import (
    MUSDB_VALIDATION_TRACKS,
    CorpusTrack,
    find_tracks,
    hold_out_valid,
    read_csvs,
)
from stemforge.features.corpus.manifest import Split
from stemforge.pipelines.console import say

if TYPE_CHECKING:
    from stemforge.pipelines.params import Corpus  # commands have no params.yaml


def list_corpus(corpus: "Corpus") -> list[CorpusTrack]:
    """The corpus' tracks, with validation tracks held out."""
    root = corpus.root
    if corpus.train_csv is None:
        tracks = find_tracks(root, stems=corpus.stems)
    else:
        named: dict[Split, str | None] = {
            "train": corpus.train_csv,
            "valid": corpus.validation_csv,
            "test": corpus.test_csv,
        }
        csvs = {split: storage.join(root, name) for split, name in named.items() if name}
        tracks = read_csvs(csvs, root=root, stems=corpus.stems)
    tracks = hold_out_valid(tracks, share=corpus.valid_share, official=MUSDB_VALIDATION_TRACKS)
    if [track.split for track in tracks if track.split != "test"] == ["train"]:
        csv = corpus.train_csv is not None
        say(
            f"corpus.valid_share={corpus.valid_share}: the only training track, "
            f"{tracks[-1].name}, is not held out for validation, so nothing can be trained: "
            + ("name a corpus.validation_csv" if csv else "add a song to the corpus' train/")
        )
    return tracks


def find_test_tracks(corpus: str, stems: Sequence[str]) -> list[CorpusTrack]:
    """Lists the test tracks for a command; errors name its options, not those of params.yaml.

    Args:
        corpus: folder with test/ in it, local or a URL.
        stems: names of its stems.

    Raises:
        UserError: no such folder, or no test tracks in it.
    """
    root = storage.absolute(corpus)
    label = f"--corpus {corpus}"
    found = find_tracks(root, stems=stems, root_label=label, stems_label="--stems ")
    tracks = [track for track in found if track.split == "test"]
    if not tracks:
        raise UserError(f"{label}: no tracks in its test/")
    return tracks

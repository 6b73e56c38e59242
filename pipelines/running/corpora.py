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
    return hold_out_valid(tracks, share=corpus.valid_share, official=MUSDB_VALIDATION_TRACKS)


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

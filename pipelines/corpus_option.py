"""The commands' option --corpus: the test tracks of a MUSDB folder."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stemforge.features import storage
from stemforge.features.errors import UserError

if TYPE_CHECKING:
    from stemforge.features.corpora import CorpusTrack


def find_test_tracks(corpus: str, stems: Sequence[str]) -> list["CorpusTrack"]:
    """Lists the test tracks; errors speak of the options.

    Args:
        corpus: folder with test/ in it, local or a URL.
        stems: names of its stems.

    Raises:
        UserError: no such folder, or no test tracks in it.
    """
    from stemforge.features.corpora import find_tracks

    root = storage.absolute(corpus)
    try:
        found = find_tracks(root, stems=stems)
    except UserError as error:  # its words are those of params.yaml
        text = str(error).replace(f"corpus.root={root}", f"--corpus {corpus}")
        raise UserError(text.replace("corpus.stems=", "--stems ")) from None
    tracks = [track for track in found if track.split == "test"]
    if not tracks:
        raise UserError(f"--corpus {corpus}: no tracks in its test/")
    return tracks

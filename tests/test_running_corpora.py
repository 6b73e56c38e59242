"""Errors about a corpus name the option that a user of commands has written."""

from pathlib import Path

import pytest

from stemforge.errors import UserError
from stemforge.pipelines.running.corpora import find_test_tracks


def refused(corpus: str, *stems: str) -> str:
    with pytest.raises(UserError) as caught:
        find_test_tracks(corpus, stems)
    return str(caught.value)


def test_a_commands_errors_name_its_options(in_tmp: Path) -> None:
    assert refused("songs", "vocals") == "--corpus songs: no such folder"
    Path("songs").mkdir()
    assert refused("songs", "vocals") == (
        "--corpus songs: no tracks: expected *.stem.mp4 files or folders of WAV files in its "
        "train/ and test/"
    )
    Path("songs/train").mkdir()
    Path("songs/train/One.stem.mp4").touch()
    assert refused("songs", "vocals") == "--corpus songs: no tracks in its test/"
    assert refused("songs", "vocals", "piano") == (
        "--stems piano: .stem.mp4 files hold drums, bass, other and vocals"
    )

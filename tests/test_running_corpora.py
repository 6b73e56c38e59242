"""What is said about a corpus names the option that a user has written."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stemforge.errors import UserError
from stemforge.pipelines.running.corpora import find_test_tracks, list_corpus


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


def test_a_single_training_song_is_named(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus: Any = SimpleNamespace(
        root="songs", stems=("vocals", "drums"), train_csv=None, valid_share=0.15
    )
    for name, said in (
        ("test/Two", ""),
        (
            "train/One",
            "corpus.valid_share=0.15: the only training track, One, is not held out for "
            "validation, so nothing can be trained: add a song to the corpus' train/\n",
        ),
        ("train/Three", ""),
    ):
        Path("songs", name).mkdir(parents=True)
        Path("songs", name, "mixture.wav").touch()
        list_corpus(corpus)
        assert capsys.readouterr().err == said

"""What is said about a corpus names the option that a user has written."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stemforge.errors import UserError
from stemforge.pipelines.running.corpora import (
    describe_corpus,
    describe_files,
    find_test_tracks,
    list_corpus,
)
from tests.conftest import SHARED

MUSDB18_7 = SHARED / "data" / "musdb18-7"


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


def test_one_sentence_says_what_a_corpus_is() -> None:
    songs: Any = {"train": 80, "valid": 14, "test": 50}
    assert describe_corpus("MUSDB18-7", songs, [6.8] * 49 + [6.83]) == (
        "MUSDB18-7: 94 training songs (14 of them validation), 50 test songs of 6.8 s"
    )
    songs = {"train": 10, "valid": 2, "test": 3}
    assert describe_corpus("data/x", songs, [31.2, 9.6, 15.0]) == (
        "data/x: 12 training songs (2 of them validation), 3 test songs of 10 to 31 s"
    )
    assert describe_corpus("x", {"test": 1}, [0.5]) == "x: 0 training songs, 1 test song of 0.5 s"
    assert describe_corpus("x", {"train": 1}, []) == "x: 1 training song, 0 test songs"


@pytest.mark.skipif(not MUSDB18_7.is_dir(), reason="needs MUSDB18-7's excerpts in ../shared")
def test_the_real_excerpts() -> None:
    """musdb lists 94 training songs with its 14; a test song has 300 032 samples."""
    train, test = (sorted((MUSDB18_7 / split).glob("*")) for split in ("train", "test"))
    assert describe_files("MUSDB18-7", train, test[:2]) == (
        "MUSDB18-7: 94 training songs (14 of them validation), 2 test songs of 6.8 s"
    )

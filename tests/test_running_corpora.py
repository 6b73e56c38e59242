"""What is said about a corpus names the option that a user has written."""

import hashlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

from stemforge.errors import UserError
from stemforge.eval.leaderboard import published
from stemforge.pipelines.options import split_mapping
from stemforge.pipelines.running.corpora import (
    describe_corpus,
    describe_musdb,
    describe_tracks,
    find_test_tracks,
    list_corpus,
)
from stemforge.pipelines.running.exporting import real_clips
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
        "train/ and test/, or in the folder itself"
    )
    Path("songs/train").mkdir()
    Path("songs/train/One.stem.mp4").touch()
    assert refused("songs", "vocals") == "--corpus songs: no tracks in its test/"
    assert refused("songs", "vocals", "piano") == (
        "--stems piano: .stem.mp4 files hold drums, bass, other and vocals"
    )


def test_a_single_training_song_is_named(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus: Any = SimpleNamespace(
        root="songs",
        stems=("vocals", "drums"),
        train_csv=None,
        valid_share=0.15,
        mapping=None,
        test_share=None,
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


def flat(*songs: str, **changes: Any) -> Any:
    """Makes a flat folder of songs, and the section of params.yaml for it."""
    for song in songs:
        Path("flat", song).mkdir(parents=True, exist_ok=True)
        for stem in ("vocals", "drums"):
            Path("flat", song, f"{stem}.wav").touch()
    values = dict(root="flat", stems=["vocals", "drums"], train_csv=None, mapping=None)
    return SimpleNamespace(**values, valid_share=0.25, **changes)


def test_the_splits_of_a_flat_folder(in_tmp: Path) -> None:
    songs = [f"Song {number}" for number in range(8)]
    tracks = list_corpus(flat(*songs, test_share=0.25))
    ordered = sorted(songs, key=lambda song: hashlib.sha256(song.encode()).hexdigest())
    assert {t.name for t in tracks if t.split == "test"} == {*ordered[:2]}
    # A quarter of the six that are left, rounded to even.
    assert {t.name for t in tracks if t.split == "valid"} == {*ordered[2:4]}
    assert len(find_test_tracks("flat", ("vocals", "drums"))[0]) == 8


def test_the_share_of_test_songs_must_fit_the_folder(in_tmp: Path) -> None:
    with pytest.raises(UserError) as caught:
        list_corpus(flat("A", "B", test_share=None))
    assert str(caught.value) == (
        "corpus.test_share=null: flat has neither train/ nor test/: set the share of its 2 songs "
        "that become test songs, such as 0.2"
    )
    corpus = flat("train/A", test_share=0.5)
    shutil.rmtree("flat/A")
    shutil.rmtree("flat/B")
    with pytest.raises(UserError, match=r"corpus.test_share=0.5: flat has train/ or test/"):
        list_corpus(corpus)


def test_a_mapping_of_the_command(in_tmp: Path) -> None:
    flat("A")
    Path("flat/A/lead vocals.wav").touch()
    text = "vocals = vocals + lead vocals"
    mapping = split_mapping(text, option="--mapping")
    assert mapping == {"vocals": ["vocals", "lead vocals"]}
    (track,), _ = find_test_tracks("flat", ("vocals", "drums"), mapping)
    assert [Path(file).name for file in track.files["vocals"]] == ["vocals.wav", "lead vocals.wav"]
    with pytest.raises(UserError, match="--mapping drums: no song has kit, only"):
        find_test_tracks("flat", ("vocals", "drums"), {"drums": ["kit"]})
    for wrong, message in (("a", "write STEM=NAME"), ("a=b,a=c", "a is there twice")):
        with pytest.raises(UserError, match=message):
            split_mapping(wrong, option="--mapping")


def test_a_command_without_a_mapping_names_none(in_tmp: Path) -> None:
    """MoisesDB's songs have no mixture and other stems; `stemforge export` has no --mapping."""
    for stem in ("vocals", "drums", "bass", "other", "guitar"):
        Path("moises/uuid", stem).mkdir(parents=True)
        Path("moises/uuid", stem, "1.wav").touch()
    with pytest.raises(UserError) as caught:
        real_clips("moises", sample_rate_hz=44_100)
    assert str(caught.value) == (
        "--corpus moises: no song has a mixture, and the sum of the stems would lack guitar (in "
        f"{Path('moises/uuid').resolve()}): use songs with a file mixture.wav, or with no other "
        "stems than bass, drums, other, vocals"
    )


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


def test_the_name_comes_from_the_test_songs(in_tmp: Path) -> None:
    """PR - Happy Daze: 6.8 s of it are in MUSDB18-7, as musdb reads it: 300 032 samples."""

    def said(name: str, seconds: float) -> str:
        sources = [SimpleNamespace(file_sha256="a")] * 5
        track: Any = SimpleNamespace(name=name, split="test", duration_s=seconds, sources=sources)
        return describe_tracks("../songs", [track])

    counts = "0 training songs, 1 test song of"
    assert said("PR - Happy Daze", 300_032 / 44_100) == f"MUSDB18-7: {counts} 6.8 s"
    assert said("PR - Sad Daze", 300_032 / 44_100) == f"../songs: {counts} 6.8 s"


def test_a_corpus_without_a_name_is_called_by_its_layout(
    in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stems = ("vocals", "drums")

    def said() -> str:
        find_test_tracks("flat", stems)
        return capsys.readouterr().err.removeprefix(str(in_tmp.resolve()))

    flat("A", "B", "extras")
    for stem in stems:
        Path("flat/extras", f"{stem}.wav").unlink()
        soundfile.write(f"flat/A/{stem}.wav", np.zeros(16_000), 8000)
    Path("flat/extras/click.wav").touch()
    assert said().split(f"{in_tmp.resolve()}") == [
        "--corpus flat: left out a folder without a wanted stem or a mixture: extras\n",
        "/flat (a flat folder of songs): 0 training songs, 2 test songs of 2.0 s\n",
    ]
    shutil.rmtree("flat")
    for stem in stems:
        Path("flat/uuid", stem).mkdir(parents=True)
        soundfile.write(f"flat/uuid/{stem}/1.wav", np.zeros(16_000), 8000)
    listed = [{"stemName": s, "tracks": [{"id": "1", "extension": "wav"}]} for s in stems]
    Path("flat/uuid/data.json").write_text(json.dumps({"stems": listed}))
    assert said() == "/flat (MoisesDB): 0 training songs, 1 test song of 2.0 s\n"
    shutil.rmtree("flat")
    song = Path("flat/test/PR - Happy Daze")
    song.mkdir(parents=True)
    for name in ("mixture", *stems):
        soundfile.write(song / f"{name}.wav", np.zeros(round(seconds_of(song.name) * 100)), 100)
    assert said().startswith("MUSDB18-HQ: 0 training songs, 1 test song of ")


def seconds_of(song: str) -> float:
    frames = published.sisec18().groupby("track")["frames"].min()
    return float(frames[song]) + 0.5


@pytest.mark.skipif(not MUSDB18_7.is_dir(), reason="needs MUSDB18-7's excerpts in ../shared")
def test_the_real_excerpts() -> None:
    """musdb lists 94 training songs with its 14; a test song has 300 032 samples."""
    count = len([*(MUSDB18_7 / "test").glob("*.stem.mp4")])
    assert describe_musdb(MUSDB18_7) == (
        f"MUSDB18-7: 94 training songs (14 of them validation), {count} test songs of 6.8 s"
    )

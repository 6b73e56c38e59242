import os
from pathlib import Path

import pytest

from stemforge.features.audio import ffmpeg
from stemforge.pipelines.running.songs import find_songs, split_ending


def test_what_ffmpeg_makes_by_its_ending_is_found_in_folders(tmp_path: Path) -> None:
    endings = (
        "3gp ac3 aif au avi caf eac3 flv m4a mka mkv mov mp2 mp3 mp4 oga ogg opus rm spx ts tta"
    )
    songs = [tmp_path / f"song.{ending}" for ending in f"{endings} voc w64 wav wma wmv WV".split()]
    encoders = {".3gp": "aac", ".spx": "libopus", ".oga": "flac", ".opus": "libopus"}
    outputs: list[str | Path] = []
    for song in songs:
        encoder = encoders.get(song.suffix)
        outputs += [*(("-c:a", encoder) if encoder else ()), song]
    ffmpeg.run_ffmpeg(
        "ffmpeg", *("-f", "lavfi", "-i", "sine=sample_rate=48000:duration=0.1"), *outputs
    )
    (tmp_path / "cover.png").touch()
    found, failed = find_songs([str(tmp_path)], stdin=None, output=tmp_path / "out")
    assert (found, failed) == (sorted(songs), [])


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("song.flac", ("song", "flac")),
        ("a.b.MP3", ("a.b", "MP3")),
        ("Song 9.stem.mp4", ("Song 9", "stem.mp4")),
        ("Song.a.Stem.MP4", ("Song.a", "Stem.MP4")),
        ("Mr. Blue Sky", ("Mr. Blue Sky", "")),
        ("B.Y.O.B.wav", ("B.Y.O.B", "wav")),
        (".wav", (".wav", "")),
        (".stem.mp4", (".stem", "mp4")),
        ("...wav", ("..", "wav")),
    ],
)
def test_a_songs_name_and_its_ending(name: str, parts: tuple[str, str]) -> None:
    assert split_ending(Path("folder.mp3") / name) == parts


def test_names_that_match_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "song [live].wav").touch()
    monkeypatch.chdir(tmp_path)
    found, failed = find_songs(
        ["empty", "song [live].wav", "*.mp3"], stdin=None, output=Path("out")
    )
    assert found == [Path("song [live].wav")]
    assert failed == [
        {"song": "empty", "error": "empty: no audio file in it"},
        {"song": "*.mp3", "error": "*.mp3: no such file"},
    ]


def test_songs_in_linked_folders_but_not_in_hidden_ones(tmp_path: Path) -> None:
    folder = tmp_path / "music"
    for name in ("music/a.wav", "music/._a.wav", "music/.cache/a.wav", "music/__MACOSX/a.wav",
                 "elsewhere/b.wav"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "linked" / "loop").symlink_to(folder)
    songs, failed = find_songs([str(folder)], stdin=None, output=tmp_path / "out")
    assert songs == [folder / "a.wav", folder / "linked" / "b.wav"]
    assert failed == []


@pytest.mark.parametrize("name", ["music", "music/*", "music/gone.wav"])
def test_a_link_that_leads_nowhere(in_tmp: Path, name: str) -> None:
    music = in_tmp / "music"
    music.mkdir()
    (music / "song.wav").touch()
    (music / "gone.wav").symlink_to("elsewhere.wav")
    os.mkfifo(music / "pipe.wav")
    expected = {
        "music/gone.wav": "music/gone.wav: a link to a file that does not exist",
        "music/pipe.wav": "music/pipe.wav: not a file",
    }
    found, failed = find_songs([name], stdin=None, output=Path("out"))
    one = name in expected
    assert found == ([] if one else [Path("music/song.wav")])
    assert {failure["song"]: failure["error"] for failure in failed} == (
        {name: expected[name]} if one else expected
    )

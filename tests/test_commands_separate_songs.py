"""`stemforge separate`: which songs it takes, what their results are called, and batches."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stemforge.features.audio import ffmpeg
from stemforge.features.audio import files as audio
from stemforge.pipelines.commands.main import main
from tests.conftest import RATE_HZ
from tests.test_commands_separate import separate


def test_a_stem_file_is_named_without_both_endings(
    tiny_corpus: Path, models: Path, tmp_path: Path
) -> None:
    song = tiny_corpus / "test" / "Song 9.stem.mp4"
    assert separate([song], models, tmp_path / "out") == 0
    assert (tmp_path / "out" / "Song 9" / "vocals.wav").is_file()


def test_folders_patterns_and_names_of_results(tmp_path: Path, models: Path) -> None:
    music = tmp_path / "music" / "old"
    music.mkdir(parents=True)
    for name in ("b.wav", "a.flac", "old/c.wav"):
        soundfile.write(tmp_path / "music" / name, np.zeros((5000, 2)), RATE_HZ)
    (tmp_path / "music" / "cover.jpg").write_bytes(b"")
    flags = ["--model", str(models), "--output", str(tmp_path / "out"), "--codec", "flac"]
    flags += ["--filename-format", "{foldername} {filename} {instrument}.{codec}"]
    assert main(["separate", str(tmp_path / "music"), *flags]) == 0
    names = [
        f"{song} {stem}.flac"
        for song in ("music a", "music b", "old c")
        for stem in ("drums", "vocals")
    ]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    flags[3] = str(tmp_path / "again")
    assert main(["separate", f"{tmp_path}/music/*.wav", *flags]) == 0
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == names[2:4]


def test_what_is_there_stays_unless_it_may_go(
    in_tmp: Path, models: Path, capsys: pytest.CaptureFixture[str], tone: Path
) -> None:
    folder, out = tone.parent, Path("out")
    assert separate([tone], models, out) == 0
    there = out / "tone" / "drums.wav"
    before = there.read_bytes()
    there.write_bytes(b"precious")
    refused = "tone.wav: out/tone/drums.wav: already exists: add --overwrite to replace it\n"
    for songs in ([tone], [folder / "t*.wav"], [folder, folder / "none.wav"]):
        capsys.readouterr()
        assert separate(songs, models, out) == 2
        assert (refused in capsys.readouterr().err) == (len(songs) == 1)
    assert separate([folder], models, out) == 0
    there.with_name("vocals.wav").unlink()
    assert separate([folder], models, out) == 2
    assert refused in capsys.readouterr().err
    assert there.read_bytes() == b"precious"
    flags = ["--model", str(models), "--output", "out", "--overwrite"]
    assert main(["separate", str(tone), *flags]) == 0
    assert there.read_bytes() == before


def test_the_line_of_a_skipped_song_tells_it_from_another_of_its_name(
    in_tmp: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("a", "b"):
        (in_tmp / folder).mkdir()
        soundfile.write(f"{folder}/song.wav", np.zeros((3000, 2)), RATE_HZ)
    assert separate([Path("a")], models, Path("out")) == 0
    capsys.readouterr()
    assert separate([Path("b")], models, Path("out")) == 0
    assert capsys.readouterr().err == (
        "b/song.wav: its results are in out/song already: skipped; --overwrite separates it again\n"
    )


@pytest.mark.parametrize("more", [[], ["--overwrite"]])
def test_a_folder_in_the_place_of_a_result(
    in_tmp: Path,
    models: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    soundfile.write("song.wav", np.zeros((3000, 2)), RATE_HZ)
    for stem in ("drums", "vocals"):
        Path(f"out/song/{stem}.wav").mkdir(parents=True)
    monkeypatch.setattr(audio, "stream_song", None)  # not even opened
    flags = ["--model", str(models), "--output", "out", *more]
    assert main(["separate", "song.wav", *flags]) == 2
    assert capsys.readouterr().err == (
        "stemforge: error: song.wav: out/song/drums.wav: cannot be written, because a folder is "
        "in its place: move the folder\n"
    )


@pytest.mark.parametrize("text", ["", ".", "{filename}/", "{filename}/{instrument}/."])
def test_a_format_that_names_no_file(
    in_tmp: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    soundfile.write("song.wav", np.zeros((3000, 2)), RATE_HZ)
    flags = ["--model", "none", "--output", "out", "--filename-format", text]
    assert main(["separate", "song.wav", *flags]) == 2  # before it looks for the models
    said = capsys.readouterr().err
    assert said.startswith(f"stemforge: error: --filename-format {text!r}: ")
    assert "is no name of a file: end the format with one" in said
    assert not Path("out").exists()


def test_a_song_that_fails_leaves_its_place_to_another(
    in_tmp: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("music").mkdir()
    Path("music/song.mp3").write_text("no audio")
    for name in ("song.wav", "song.wave"):
        soundfile.write(f"music/{name}", np.zeros((3000, 2)), RATE_HZ, format="WAV")
    flags = ["--model", str(models), "--output", "out", "--json"]
    assert main(["separate", "music", *flags]) == 2
    summary = json.loads(capsys.readouterr().out)
    assert [song["song"] for song in summary["songs"]] == ["music/song.wav"]
    broken, other = (failure["error"] for failure in summary["failed"])
    assert broken.startswith("music/song.mp3: not readable as audio")
    said = "drums of music/song.wave and drums of music/song.wav would both be written there"
    assert said in other
    assert soundfile.info("out/song/drums.wav").frames == 3000


@pytest.mark.parametrize("names", [["nope1"], ["nope1", "nope2"]])
def test_names_that_match_nothing(
    in_tmp: Path, capsys: pytest.CaptureFixture[str], names: list[str]
) -> None:
    flags = ["--model", "none", "--output", "out", "--json"]  # no model is needed
    assert main(["separate", *names, *flags]) == 2
    printed = capsys.readouterr()
    failed = [{"song": name, "error": f"{name}: no such file"} for name in names]
    assert json.loads(printed.out) == {"songs": [], "skipped": [], "failed": failed}
    lines = [
        "stemforge: nope1: no such file",
        "stemforge: nope2: no such file",
        "stemforge: error: 2 of 2 songs were not separated, the first: nope1: no such file",
    ]
    assert printed.err.splitlines() == (
        lines if len(names) == 2 else ["stemforge: error: nope1: no such file"]
    )


def test_no_song_ends_the_others(
    in_tmp: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "x" * 240  # the results' names fit; temporary ones, with a process' number, do not
    fine = {
        "music/a.flac": "a/a",
        "music/deep/caf\udce9.wav": "caf\udce9/caf\udce9",  # the byte E9
        f"music/{long}.wav": f"{long}/{long}",
        "Mr. Blue Sky": "Mr. Blue Sky/Mr. Blue Sky",
    }
    failing = {
        "...wav": "would not be in --output music/out",
        "music/a.wav": "drums of music/a.wav and drums of music/a.flac would both be written there",
        "music/fast.wav": "ogg: 352800 Hz is not supported; supported: up to 200000 Hz",
        f"music/{long}xxxxxx.wav": "File name too long",
        "music/half.wav": "half-drums.ogg: already exists: add --overwrite to replace it",
        "music/taken.wav": "music/out/taken: cannot be made, because a file is in its place",
    }
    no_songs = ["._a.wav", ".trash/b.wav", "__MACOSX/c.wav", "out/old/d.wav", "cover.jpg"]
    for name in (*fine, *failing, *(f"music/{name}" for name in no_songs), "music/done.WMA"):
        path = in_tmp / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rate_hz = 352800 if "fast" in name else RATE_HZ
        kind = "FLAC" if name.endswith("flac") else "WAV"
        soundfile.write(os.fsencode(path), np.zeros((3000, 2)), rate_hz, format=kind)
    for name in ("done/done-drums", "done/done-vocals", "half/half-drums"):
        path = in_tmp / f"music/out/{name}.ogg"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (in_tmp / "music/out/taken").touch()
    command = ["separate", "music", "Mr. Blue Sky", "gone.wav", "...wav", "music/../music/a.flac"]
    command += ["--model", str(models), "--output", "music/out", "--codec", "ogg", "--json"]
    command += ["--filename-format", "{filename}/{filename}-{instrument}.{codec}"]
    failing["gone.wav"] = "gone.wav: no such file"
    skipped = ["music/done.WMA"]
    for songs in (fine, {}):  # the second time these are done
        assert main(command) == 2
        printed = capsys.readouterr()
        summary = json.loads(printed.out)
        assert {song["song"]: song["files"] for song in summary["songs"]} == {
            song: {stem: f"music/out/{name}-{stem}.ogg" for stem in ("drums", "vocals")}
            for song, name in songs.items()
        }
        assert sorted(song["song"] for song in summary["skipped"]) == sorted(skipped)
        assert {song["song"] for song in summary["failed"]} == {*failing}
        for song in summary["failed"]:
            assert failing[song["song"]] in song["error"]
            assert f"stemforge: {song['error']}\n" in printed.err
        for song in skipped:
            folder = f"music/out/{Path(song).stem if song != 'Mr. Blue Sky' else song}"
            said = f"{song}: its results are in {folder} already: skipped; --overwrite separates it"
            assert said.encode(errors="backslashreplace").decode() in printed.err
        assert f"stemforge: error: 7 of {7 + len(fine) + 1} songs were not" in printed.err
        skipped += songs
    for name in fine.values():
        assert len(audio.read_audio(in_tmp / f"music/out/{name}-drums.ogg")) == 3000
    assert not list(Path("music").rglob(".*.tmp"))


def test_the_song_itself_is_never_overwritten(
    tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str], tone: Path
) -> None:
    song = tmp_path / "drums.wav"
    song.write_bytes(tone.read_bytes())
    flags = ["--model", str(models), "--output", str(tmp_path), "--overwrite"]
    flags += ["--filename-format", "{instrument}.{codec}"]
    assert main(["separate", str(song), *flags]) == 2
    assert "drums.wav itself would both be written there" in capsys.readouterr().err
    assert song.read_bytes() == tone.read_bytes()


def test_one_bad_song_does_not_stop_the_others(
    tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str], tone: Path
) -> None:
    bad = tmp_path / "a bad one.wav"
    bad.write_text("no audio")
    flags = ["--model", str(models), "--output", str(tmp_path / "out"), "--json"]
    assert main(["separate", str(bad), str(tone), *flags]) == 2
    printed = capsys.readouterr()
    assert "1 of 2 songs were not separated, the first: " in printed.err
    summary = json.loads(printed.out)
    assert [song["song"] for song in summary["songs"]] == [str(tone)]
    assert "not readable as audio" in summary["failed"][0]["error"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == [tone.stem]


def test_results_among_the_songs_are_none(
    models: Path, tone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tone.parent
    flags = ["--model", str(models), "--output", str(folder), "--json"]
    for number, more in enumerate(([], [], ["--overwrite"])):
        assert main(["separate", str(folder), *flags, *more]) == 0
        printed = capsys.readouterr()
        summary = json.loads(printed.out)
        kind = "skipped" if number == 1 else "songs"
        assert [song["song"] for song in summary[kind]] == [str(tone)]
        assert ("2 of 3 files are results of other songs: left out" in printed.err) == (number > 0)
    assert sorted(path.name for path in folder.iterdir()) == ["tone", "tone.wav"]
    # Where some of them are missing, the others may be anyone's.
    (folder / "tone" / "vocals.wav").unlink()
    assert main(["separate", str(tone), str(folder / "tone"), *flags, "--overwrite"]) == 2
    failed = json.loads(capsys.readouterr().out)["failed"]
    assert "tone/drums.wav itself would both be written there" in failed[0]["error"]


def test_songs_of_one_name_by_their_extension(tmp_path: Path, models: Path, tone: Path) -> None:
    soundfile.write(tone.with_suffix(".flac"), np.zeros((3000, 2)), RATE_HZ)
    flags = ["--model", str(models), "--output", str(tmp_path / "out"), "--stems", "drums"]
    flags += ["--filename-format", "{filename}.{extension}/{instrument}.{codec}"]
    assert main(["separate", str(tone.parent), *flags]) == 0
    samples = {
        path.parent.name: soundfile.info(path).frames for path in tmp_path.glob("out/*/drums.wav")
    }
    assert samples == {"tone.wav": RATE_HZ, "tone.flac": 3000}


def test_standard_input_is_another_song_each_time(
    in_tmp: Path, models: Path, monkeypatch: pytest.MonkeyPatch, tone: Path
) -> None:
    for code in (0, 2):
        with tone.open() as stdin:
            monkeypatch.setattr("sys.stdin", stdin)
            assert separate([Path("-")], models, Path("out")) == code


@pytest.mark.parametrize(
    "name", ["two words.wav", 'it\'s "quoted".wav', "-dash.wav", "Größe 音.wav"]
)
def test_odd_names(
    in_tmp: Path, models: Path, tone: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for ending in (".wav", ".m4a"):  # read by soundfile, and by ffmpeg
        song = in_tmp / f"{name}{ending}"
        if ending == ".wav":
            song.write_bytes(tone.read_bytes())
        else:
            ffmpeg.run_ffmpeg("ffmpeg", "-i", tone, f"file:{song}")
        flags = ["--model", str(models), "--output", ending, "--codec", "mp3"]
        assert main(["separate", *flags, "--", song.name]) == 0
        made = sorted(path.name for path in (in_tmp / ending / song.stem).iterdir())
        assert made == ["drums.mp3", "vocals.mp3"]

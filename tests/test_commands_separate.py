import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stemforge import machine
from stemforge.features.audio import codecs, ffmpeg
from stemforge.features.audio import files as audio
from stemforge.pipelines.commands.main import main
from stemforge.pipelines.running.songs import find_songs, split_ending
from stemforge.train.model import Model, save_model
from stemforge.train.nets.unet import UNet
from tests.conftest import RATE_HZ, ROOT

NET = UNet(16, 64, 2, 3, "affine", 0.0, "elu", "elu", "sigmoid")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    for number, stem in enumerate(("vocals", "drums")):
        folder = tmp_path / "models" / stem
        folder.mkdir(parents=True)
        model = NET.build([stem], seed=number)
        save_model(folder, Model((stem,), NET, 4096, 1024, RATE_HZ, {"step": 3}, model))
    return tmp_path / "models"


@pytest.fixture
def tone(tmp_path: Path) -> Path:
    """One second, stereo, of 300 Hz."""
    path = tmp_path / "source" / "tone.wav"
    path.parent.mkdir()
    wave = 0.3 * np.sin(2 * np.pi * 300 * np.arange(RATE_HZ) / RATE_HZ)
    soundfile.write(path, np.stack([wave, wave], 1), RATE_HZ)
    return path


def separate(songs: list[Path], models: Path, output: Path) -> int:
    return main(["separate", *map(str, songs), "--model", str(models), "--output", str(output)])


@pytest.mark.parametrize(
    ("ending", "rate_hz", "channels"),
    [
        ("wav", 44100, 2),
        ("flac", 48000, 1),
        ("ogg", 22050, 2),
        ("mp3", 44100, 1),
        ("m4a", 44100, 2),
    ],
)
def test_separate_keeps_rate_length_and_channels(
    tmp_path: Path, models: Path, ending: str, rate_hz: int, channels: int
) -> None:
    tone = 0.3 * np.sin(2 * np.pi * 300 * np.arange(rate_hz) / rate_hz)
    source = tmp_path / "source.wav"
    soundfile.write(source, np.repeat(tone[:, None], channels, axis=1), rate_hz)
    song = tmp_path / f"a söng, 'quoted'.{ending}"
    ffmpeg.run_ffmpeg("ffmpeg", "-i", source, "-strict", "-2", f"file:{song}")
    waveform, _ = audio.load_song(song)
    assert separate([song], models, tmp_path / "out") == 0
    folder = tmp_path / "out" / "a söng, 'quoted'"
    assert sorted(path.name for path in folder.iterdir()) == ["drums.wav", "vocals.wav"]
    total = np.zeros_like(waveform)
    for path in folder.iterdir():
        info = soundfile.info(path)
        assert (info.samplerate, info.frames, info.channels) == (rate_hz, *waveform.shape)
        total += audio.read_audio(path)
    # The tone lies below bin 64: the two stems add up to it.
    assert np.std(total) == pytest.approx(np.std(waveform), rel=0.05)


def test_a_part_of_a_song_and_some_of_its_stems(tmp_path: Path, models: Path) -> None:
    song = tmp_path / "song.wav"
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (2 * RATE_HZ, 2))
    soundfile.write(song, noise, RATE_HZ, subtype="FLOAT")
    soundfile.write(tmp_path / "part.wav", noise[22050:55125], RATE_HZ, subtype="FLOAT")
    flags = ["--model", str(models), "--subtype", "FLOAT"]
    assert main(["separate", str(song), *flags, "--output", str(tmp_path / "a"), "--stems",
                 " drums ", "--offset", "0.5", "--duration", "0.75"]) == 0  # fmt: skip
    part = tmp_path / "part.wav"
    assert main(["separate", str(part), *flags, "--output", str(tmp_path / "b")]) == 0
    assert [path.name for path in (tmp_path / "a" / "song").iterdir()] == ["drums.wav"]
    found, truth = (
        audio.read_audio(tmp_path / name / "drums.wav") for name in ("a/song", "b/part")
    )
    np.testing.assert_array_equal(found, truth)
    assert main(["separate", str(song), *flags, "--output", str(tmp_path / "c"), "--mask",
                 "direct", "--mask-extension", "average"]) == 0  # fmt: skip
    other = audio.read_audio(tmp_path / "c" / "song" / "drums.wav")
    assert len(other) == 2 * RATE_HZ
    # Noise above the nets' highest bin is there with "average" and not with "zeros".
    high = [np.abs(np.fft.rfft(w[:, 0]))[len(w) // 4 :].mean() / len(w) for w in (other, truth)]
    assert high[0] > 10 * high[1]


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--offset", "9"], "--offset 9.0: the song has only 1.00 s"),
        (["--offset", "-1"], "--offset -1.0: must be 0 or more"),
        (["--duration", "0"], "--duration 0.0: must be more than 0"),
        (["--stems", "vocals,piano"], "stem 'piano': no model has it: name some of drums, vocals"),
        (["--exponent", "0"], "exponent=0.0: must be positive"),
        (
            ["--codec", "mp3", "--subtype", "FLOAT"],
            "not supported by mp3; supported by wav and flac",
        ),
        (
            ["--filename-format", "{song}.wav"],
            "--filename-format {song}.wav: 'song' is not supported",
        ),
        (["--filename-format", "x.wav"], "would both be written there: use {instrument} in it"),
        (["--filename-format", "/{filename}/{instrument}.wav"], "would not be in --output"),
        (["--filename-format", "../{filename}/{instrument}.wav"], "would not be in --output"),
        (["--output", "gs://bucket/x"], "gs://bucket/x: a URL, where only a path on this machine"),
        (["--stems", "vocals,,drums"], "--stems 'vocals,,drums': an empty name"),
        (["--stems", ""], "--stems '': an empty name"),
        (["--stems", "drums, drums"], "--stems drums, drums: drums is there twice"),
        (["--mwf-window", "9"], "--mwf-window 9: needs --mwf"),
        (["--mwf", "--mwf-window", "0"], "mwf_window_frames=0: must be 1 or more"),
        (["--mwf", "--mask", "ratio"], "a Wiener filter does not use mask"),
        (["--overlap", "9"], "overlap_frames=9: must be 0 to 8"),
        (["--max-frequency-hz", "30000"], "max_frequency_hz=30000: must be above 0"),
        (["--runtime", "litert"], "no *-float32.tflite in it"),
    ],
)
def test_bad_options(
    tmp_path: Path,
    models: Path,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    problem: str,
) -> None:
    song = tmp_path / "song.wav"
    soundfile.write(song, np.zeros((RATE_HZ, 2)), RATE_HZ)
    command = ["separate", str(song), "--model", str(models), "--output", str(tmp_path / "out")]
    assert main([*command, *flags]) == 2
    assert problem in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


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


def test_a_stem_files_name_is_that_of_its_track() -> None:
    assert [split_ending(Path(n))[0] for n in ("A.b.Stem.MP4", "A.b.mp4")] == ["A.b", "A.b"]


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


@pytest.mark.system
def test_standard_input_and_json(
    tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str], tone: Path
) -> None:
    command = [
        sys.executable,
        "-c",
        "from stemforge.pipelines.commands.main import run; run()",
        "separate",
        "-",
    ]
    command += ["--model", str(models), "--output", str(tmp_path / "out"), "--json"]
    done = subprocess.run(
        command, input=tone.read_bytes(), capture_output=True, check=True, cwd=ROOT
    )
    summary = json.loads(done.stdout)
    assert summary["failed"] == []
    (song,) = summary["songs"]
    assert (song["seconds"], song["sample_rate_hz"], song["channels"]) == (1.0, RATE_HZ, 2)
    assert song["files"]["drums"] == str(tmp_path / "out" / "stdin" / "drums.wav")
    assert separate([tone], models, tmp_path / "two") == 0
    for stem in ("drums", "vocals"):
        path = tmp_path / "two" / tone.stem / f"{stem}.wav"
        assert path.read_bytes() == Path(song["files"][stem]).read_bytes()
    empty = subprocess.run(command, input=b"", capture_output=True, cwd=ROOT)
    assert (empty.returncode, empty.stdout) == (2, b"")
    assert b"standard input is empty" in empty.stderr
    # A pipe whose reader has gone.
    reader, writer = os.pipe()
    os.close(reader)
    closed = subprocess.run(
        [*command, "--overwrite"], input=tone.read_bytes(), stdout=writer, cwd=ROOT,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(writer)
    assert b"Traceback" not in closed.stderr
    assert not list((tmp_path / "out" / "stdin").glob(".*"))


def test_residual_instrumental_and_filters(tmp_path: Path, models: Path) -> None:
    song = tmp_path / "song.wav"
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (RATE_HZ, 2))
    soundfile.write(song, noise, RATE_HZ, subtype="FLOAT")
    flags = ["--model", str(models), "--subtype", "FLOAT", "--residual", "--instrumental"]
    for number, more in enumerate(
        ([], ["--mwf", "--mwf-window", "20"], ["--overlap", "4", "--max-frequency-hz", "5000"])
    ):
        out = tmp_path / str(number)
        assert main(["separate", str(song), *flags, *more, "--output", str(out)]) == 0
        parts = {path.stem: audio.read_audio(path) for path in (out / "song").iterdir()}
        assert set(parts) == {"vocals", "drums", "residual", "instrumental"}
        total = parts["vocals"] + parts["drums"] + parts["residual"]
        np.testing.assert_allclose(total, noise, atol=1e-6)
        np.testing.assert_allclose(parts["instrumental"] + parts["vocals"], noise, atol=1e-6)
    wide, narrow = (audio.read_audio(tmp_path / n / "song" / "drums.wav") for n in "20")
    high = [np.abs(np.fft.rfft(w[:, 0]))[2000:5000].mean() for w in (wide, narrow)]
    assert high[0] > 10 * high[1]


def test_what_is_there_stays_unless_it_may_go(
    tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str], tone: Path
) -> None:
    assert separate([tone], models, tmp_path / "out") == 0
    there = tmp_path / "out" / tone.stem / "drums.wav"
    before = there.read_bytes()
    there.write_bytes(b"precious")
    capsys.readouterr()
    assert separate([tone], models, tmp_path / "out") == 0
    said = capsys.readouterr().err
    assert "1 song is done already: skipped; --overwrite redoes it" in said
    there.with_name("vocals.wav").unlink()
    assert separate([tone], models, tmp_path / "out") == 2
    assert "drums.wav: already exists: add --overwrite to replace it" in capsys.readouterr().err
    assert there.read_bytes() == b"precious"
    flags = ["--model", str(models), "--output", str(tmp_path / "out"), "--overwrite"]
    assert main(["separate", str(tone), *flags]) == 0
    assert there.read_bytes() == before


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
        assert f"{len(skipped)} song" in printed.err
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


@pytest.mark.parametrize("codec", ["wav", "mp3"])
def test_a_signal_leaves_nothing(
    tmp_path: Path, models: Path, tone: Path, monkeypatch: pytest.MonkeyPatch, codec: str
) -> None:
    written = []

    def write(file: object, waveform: np.ndarray) -> int:
        written.append(len(list((tmp_path / "out" / "tone").iterdir())))
        os.kill(os.getpid(), signal.SIGTERM)
        return 0

    monkeypatch.setattr(audio.WavWriter, "write", write)
    monkeypatch.setattr(codecs._Pipe, "write", write)
    flags = ["--model", str(models), "--output", str(tmp_path / "out"), "--codec", codec]
    assert main(["separate", str(tone), *flags]) == 128 + signal.SIGTERM
    assert len(written) == 1
    assert not (tmp_path / "out").exists()


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


def test_a_song_that_is_cut_off(
    tmp_path: Path, models: Path, tone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    song = tmp_path / "cut.mp3"
    ffmpeg.run_ffmpeg("ffmpeg", "-i", tone, song)
    song.write_bytes(song.read_bytes()[: song.stat().st_size // 2])
    flags = ["--model", str(models), "--output", str(tmp_path / "out")]
    assert main(["separate", str(song), *flags]) == 0
    made = soundfile.info(tmp_path / "out" / "cut" / "drums.wav")
    said = f"it states 1.00 s, and {made.duration:.2f} s are there"
    assert (
        f"cut.mp3: cut off? {said}: separated as far as it can be read" in capsys.readouterr().err
    )
    # Its length is the one that is there, whatever its header says.
    assert main(["separate", str(song), *flags, "--overwrite", "--offset", "0.7"]) == 2
    said = f"cut.mp3: --offset 0.7: the song has only {made.duration:.2f} s"
    assert said in capsys.readouterr().err


def test_more_than_two_channels(
    tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    song = tmp_path / "wide.wav"
    soundfile.write(song, np.full((RATE_HZ, 6), 0.1), RATE_HZ)
    flags = ["--model", str(models), "--output", str(tmp_path / "out")]
    assert main(["separate", str(song), *flags]) == 2
    said = "wide.wav: 6 channels: not supported: add --downmix, which mixes them to two"
    assert said in capsys.readouterr().err
    assert main(["separate", str(song), *flags, "--downmix"]) == 0
    assert soundfile.info(tmp_path / "out" / "wide" / "drums.wav").channels == 2


def test_a_video_and_a_very_short_clip(tmp_path: Path, models: Path, tone: Path) -> None:
    video = tmp_path / "video.mp4"
    picture = ["-f", "lavfi", "-i", "color=size=32x32:rate=5:duration=1"]
    ffmpeg.run_ffmpeg("ffmpeg", *picture, "-i", tone, "-c:v", "mpeg4", "-shortest", video)
    clip = tmp_path / "clip.wav"
    soundfile.write(clip, np.full((220, 1), 0.1), RATE_HZ)  # 5 ms
    assert separate([video, clip], models, tmp_path / "out") == 0
    samples = soundfile.info(tmp_path / "out" / "video" / "drums.wav").frames
    assert samples == pytest.approx(RATE_HZ, abs=2048)
    short = soundfile.info(tmp_path / "out" / "clip" / "drums.wav")
    assert (short.frames, short.channels) == (220, 1)


@pytest.mark.system
@pytest.mark.parametrize("codec", ["wav", "flac", "mp3"])
def test_a_full_disk_leaves_nothing(tmp_path: Path, models: Path, codec: str) -> None:
    """No file may grow beyond 64 kB; the song's stems would."""
    song = tmp_path / "song.wav"
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (20 * RATE_HZ, 2))
    soundfile.write(song, noise, RATE_HZ)
    script = (
        "import resource, signal, sys\n"
        "from stemforge.pipelines.commands.main import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    flags = ["--model", str(models), "--output", str(tmp_path / "out"), "--codec", codec]
    done = subprocess.run(
        [sys.executable, "-c", script, "separate", song, *flags],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    (line,) = (x for x in done.stderr.splitlines() if "error" in x.lower())
    assert line.startswith("stemforge: error: ")
    assert not (tmp_path / "out").exists()


def test_bad_input_is_one_line_and_writes_nothing(
    tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    song = tmp_path / "song.wav"
    soundfile.write(song, np.zeros((5000, 2)), RATE_HZ)
    text, wide, nan = tmp_path / "text.mp3", tmp_path / "wide.wav", tmp_path / "nan.wav"
    text.write_text("no audio")
    soundfile.write(wide, np.zeros((5000, 7)), RATE_HZ)
    soundfile.write(nan, np.full((5000, 2), np.nan), RATE_HZ, subtype="FLOAT")
    empty, silent, old = tmp_path / "empty.wav", tmp_path / "silent.wav", tmp_path / "old"
    empty.write_bytes(b"")
    soundfile.write(silent, np.zeros((0, 2)), RATE_HZ)
    shutil.copytree(models, old)
    card = (old / "drums" / "model.json").read_text()
    (old / "drums" / "model.json").write_text(card.replace('"version": 3', '"version": 1'))
    (tmp_path / "no models").mkdir()
    cases = [
        ([tmp_path / "none.wav"], models, "none.wav: no such file"),
        ([song], tmp_path / "nowhere", "nowhere: no such folder"),
        ([song], tmp_path / "no models", "no model directory"),
        ([text], models, "text.mp3: not readable as audio"),
        ([empty], models, "empty.wav: not readable as audio"),
        ([silent], models, "silent.wav: no samples to separate"),
        ([song], old, "model version 1 is not supported; supported: 2, 3: train or import"),
        ([wide], models, "wide.wav: 7 channels"),
        ([nan], models, "nan.wav: 10000 samples are not finite"),
    ]
    for songs, folder, message in cases:
        assert separate(songs, folder, tmp_path / "out") == 2
        (line,) = (x for x in capsys.readouterr().err.splitlines() if "error" in x)
        assert line.startswith("stemforge: error: ")
        assert message in line
        assert not (tmp_path / "out").exists()
    assert separate([song], models, song) == 2
    assert "a file, not a folder" in capsys.readouterr().err


def test_bfloat16_only_where_the_cpu_has_it(
    tmp_path: Path,
    models: Path,
    tone: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def estimate(cpu_flags: str, *flags: str) -> bytes:
        (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags\t\t: fpu {cpu_flags} avx2\n")
        monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
        out = ["--output", str(tmp_path / "out"), "--overwrite", "--subtype", "FLOAT"]
        assert main(["separate", str(tone), "--model", str(models), *out, *flags]) == 0
        return (tmp_path / "out" / "tone" / "vocals.wav").read_bytes()

    exact = estimate("avx512_bf16")
    rounded = estimate("avx512_bf16", "--precision", "bfloat16")
    assert exact != rounded
    capsys.readouterr()
    assert estimate("avx512f", "--precision", "bfloat16") == exact
    assert "this CPU has no instructions for it" in capsys.readouterr().err
    assert estimate("avx512f", "--precision", "bfloat16", "--force-precision") == rounded
    assert "instructions" not in capsys.readouterr().err

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
from tests.conftest import RATE_HZ, ROOT
from tests.test_web import small_models


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


def test_a_song_that_is_cut_off(
    tmp_path: Path, models: Path, tone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    song = tmp_path / "cut.mp3"
    ffmpeg.run_ffmpeg("ffmpeg", "-i", tone, song)
    song.write_bytes(song.read_bytes()[: song.stat().st_size // 2])
    flags = ["--model", str(models), "--output", str(tmp_path / "out")]
    assert main(["separate", str(song), *flags]) == 0
    made = soundfile.info(tmp_path / "out" / "cut" / "drums.wav")
    said = f"cut.mp3: cut off? it states 1.00 s, and {made.duration:.2f} s are there: the "
    said += f"{made.duration:.2f} s that could be decoded were separated\n"
    assert said in capsys.readouterr().err
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
    (old / "drums" / "model.json").write_text(card.replace('"version": 4', '"version": 1'))
    (tmp_path / "no models").mkdir()
    cases = [
        ([tmp_path / "none.wav"], models, "none.wav: no such file"),
        ([song], tmp_path / "nowhere", "nowhere: no such folder"),
        ([song], tmp_path / "no models", "no model directory"),
        ([text], models, "text.mp3: not readable as audio"),
        ([empty], models, "empty.wav: not readable as audio"),
        ([silent], models, "silent.wav: no samples to separate"),
        ([song], old, "model version 1 is not supported; supported: 2, 3, 4: train or import"),
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


def pretend_cpu(flags: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The processor has these instructions, and is another one than this machine's."""
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags\t\t: fpu {flags} avx2\n")
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")


def test_bfloat16_only_where_the_cpu_has_it(
    tmp_path: Path,
    models: Path,
    tone: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def estimate(cpu_flags: str, *flags: str) -> bytes:
        pretend_cpu(cpu_flags, tmp_path, monkeypatch)
        out = ["--output", str(tmp_path / "out"), "--overwrite", "--subtype", "FLOAT"]
        assert main(["separate", str(tone), "--model", str(models), *out, *flags]) == 0
        return (tmp_path / "out" / "tone" / "vocals.wav").read_bytes()

    exact = estimate("avx512_bf16")
    rounded = estimate("avx512_bf16", "--precision", "bfloat16")
    assert exact != rounded
    capsys.readouterr()
    assert estimate("avx512f", "--precision", "bfloat16") == exact
    assert "this CPU has no instructions for it" in capsys.readouterr().err
    assert main(["separate", str(tone), "--model", str(models), "--force-precision"]) == 2
    assert "--force-precision: is for --precision bfloat16" in capsys.readouterr().err
    assert estimate("avx512f", "--precision", "bfloat16", "--force-precision") == rounded
    assert "instructions" not in capsys.readouterr().err


def test_auto_takes_what_is_fastest(
    tmp_path: Path,
    models: Path,
    tone: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Files with layers in int8 where there are some; else bfloat16 where the CPU has it."""

    def estimate(place: Path, *flags: str) -> tuple[bytes, str]:
        out = ["--output", str(tmp_path / "out"), "--overwrite", "--subtype", "FLOAT"]
        assert main(["separate", str(tone), "--model", str(place), *out, *flags]) == 0
        said = [x for x in capsys.readouterr().err.splitlines() if x.startswith("--precision")]
        return (tmp_path / "out" / "tone" / "vocals.wav").read_bytes(), "".join(said)

    auto = ("--precision", "auto")
    pretend_cpu("avx512_bf16", tmp_path, monkeypatch)
    rounded, _ = estimate(models, "--precision", "bfloat16")
    assert estimate(models, *auto) == (rounded, "--precision auto: bfloat16, by TensorFlow")
    pretend_cpu("avx512f", tmp_path, monkeypatch)
    exact, _ = estimate(models)
    assert estimate(models, *auto) == (exact, "--precision auto: float32")

    files, mixed = tmp_path / "files", tmp_path / "mixed"
    for folder in (files, mixed):
        folder.mkdir()
        small_models(folder, int8=folder == files)
    plain, _ = estimate(files)
    assert estimate(mixed, *auto) == (plain, "--precision auto: float32")
    found, said = estimate(files, *auto)
    assert said == "--precision auto: inner layers in int8, by LiteRT"
    assert found != plain
    # A stem that lost too much in int8 has no such file, and stays as it is.
    shutil.copy(files / "drums-int8-mixed.tflite", mixed)
    some, said = estimate(mixed, *auto)
    assert said == (
        "--precision auto: inner layers in int8, but float32 for bass, other, vocals, by LiteRT"
    )
    assert some not in (plain, found)
    # Damaged measurements are no reason to do without them.
    (mixed / "parity.json").write_text("[1]")
    assert main(["separate", str(tone), "--model", str(mixed), *auto]) == 2
    assert "parity.json: not what `stemforge export` writes" in capsys.readouterr().err
    # One file that is named is the one.
    (tmp_path / "one").mkdir()
    one = shutil.copy(files / "vocals-float32.tflite", tmp_path / "one" / "vocals-float32.tflite")
    shutil.copy(files / "vocals-int8-mixed.tflite", tmp_path / "one")
    assert estimate(Path(one), *auto)[1] == "--precision auto: float32"

from pathlib import Path

import numpy as np
import pytest
import soundfile

from features import audio, ffmpeg
from pipelines.cli import main
from tests.conftest import RATE_HZ
from train import unet
from train.config import Net
from train.unet import Model

NET = Net(16, 64, 2, 3, "affine", 0.0, "elu", "elu", "sigmoid")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    for number, stem in enumerate(("vocals", "drums")):
        folder = tmp_path / "models" / stem
        folder.mkdir(parents=True)
        model = unet.build(NET, [stem], seed=number)
        unet.save_model(folder, Model((stem,), NET, 4096, 1024, RATE_HZ, {"step": 3}, model))
    return tmp_path / "models"


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
                 "drums", "--offset", "0.5", "--duration", "0.75"]) == 0  # fmt: skip
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
        (["--offset", "9"], "--offset 9.0: it lasts 1.00 s"),
        (["--offset", "-1"], "--offset -1.0: must be 0 or more"),
        (["--duration", "0"], "--duration 0.0: must be more than 0"),
        (["--stems", "vocals,piano"], "stem 'piano': name once each of drums, vocals"),
        (["--exponent", "0"], "exponent=0.0: must be positive"),
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


def test_info(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(models)]) == 0
    printed = capsys.readouterr().out
    assert "stems       drums" in printed
    assert "estimates up to 689 Hz" in printed
    assert "16 frames x 64 bins x 2 (0.37 s)" in printed


def test_bad_input_is_one_line_and_writes_nothing(
    tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    song = tmp_path / "song.wav"
    soundfile.write(song, np.zeros((5000, 2)), RATE_HZ)
    text, wide, nan = tmp_path / "text.mp3", tmp_path / "wide.wav", tmp_path / "nan.wav"
    text.write_text("no audio")
    soundfile.write(wide, np.zeros((5000, 7)), RATE_HZ)
    soundfile.write(nan, np.full((5000, 2), np.nan), RATE_HZ, subtype="FLOAT")
    twin = tmp_path / "twin" / "song.flac"
    twin.parent.mkdir()
    soundfile.write(twin, np.zeros((5000, 2)), RATE_HZ)
    cases = [
        ([tmp_path / "none.wav"], models, "none.wav: no such file"),
        ([song, twin], models, "would both be"),
        ([song], tmp_path / "nowhere", "nowhere: no such folder"),
        ([song], tmp_path / "twin", "no model directory"),
        ([text], models, "text.mp3: not readable as audio"),
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
    assert "it is a file, not a folder" in capsys.readouterr().err

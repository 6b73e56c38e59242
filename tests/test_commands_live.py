"""`stemforge live` between files, and what it refuses; tests/system/test_live.py has devices."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from stemforge.eval.separation.separator import Separator, find_models
from stemforge.features.audio.files import as_stereo
from stemforge.pipelines.commands.main import main
from tests.conftest import RATE_HZ
from tests.test_separation_live import noise

SIZES = ("--frames", "16", "--hop", "4", "--lookahead", "3")


def live(models: Path, *more: object) -> int:
    flags = ["--model", models, "--runtime", "tensorflow", *SIZES, "--subtype", "FLOAT"]
    return main(["live", *map(str, (*flags, *more))])


@pytest.mark.parametrize(("rate_hz", "channels"), [(44100, 2), (44100, 1), (22050, 2)])
def test_from_a_file_to_files(models: Path, tmp_path: Path, rate_hz: int, channels: int) -> None:
    wave = 0.4 * noise(40_000, channels)
    song, out = tmp_path / "song.wav", tmp_path / "mix.wav"
    soundfile.write(song, wave, rate_hz, subtype="FLOAT")
    flags = ["--mix", "vocals=0.5,drums=2", "--record", tmp_path / "stems"]
    assert live(models, "--input", song, "--output", out, *flags) == 0
    separator = Separator.load(find_models(models), runtime="tensorflow", frames=16)
    engine = separator.start_live(hop=4, lookahead=3, channels=2, sample_rate_hz=rate_hz)
    more = np.zeros((engine.latency, 2), np.float32)
    truth = engine.push(np.concatenate([as_stereo(wave), more]))
    truth = {stem: found[engine.latency :] for stem, found in truth.items()}
    for stem in ("vocals", "drums"):
        found, found_hz = soundfile.read(tmp_path / "stems" / f"{stem}.wav")
        assert (found_hz, found.shape) == (rate_hz, (40_000, 2))
        np.testing.assert_allclose(found, truth[stem], atol=1e-6)
    mix, _ = soundfile.read(out)
    np.testing.assert_allclose(mix, 0.5 * truth["vocals"] + 2 * truth["drums"], atol=1e-6)


def test_of_one_stem_the_rest_is_there_too(models: Path, tmp_path: Path) -> None:
    wave = 0.4 * noise(20_000)
    song = tmp_path / "song.wav"
    soundfile.write(song, wave, RATE_HZ, subtype="FLOAT")
    flags = ["--input", song, "--output", tmp_path / "mix.wav", "--record", tmp_path / "stems"]
    assert live(models / "vocals", *flags, "--mix", "residual=1") == 0
    assert sorted(path.name for path in (tmp_path / "stems").iterdir()) == [
        "residual.wav", "vocals.wav",
    ]  # fmt: skip
    mix, _ = soundfile.read(tmp_path / "mix.wav")
    np.testing.assert_allclose(mix, wave, atol=1e-5)  # both together
    flags[3] = tmp_path / "alone.wav"
    assert live(models / "vocals", *flags[:4]) == 0  # by default the rest is not heard
    alone, _ = soundfile.read(tmp_path / "alone.wav")
    vocals, _ = soundfile.read(tmp_path / "stems" / "vocals.wav")
    np.testing.assert_array_equal(alone, vocals)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--mix", "bass=1"], "--mix bass=1: no such stem: name some of drums, vocals"),
        (["--mix", "drums=loud"], "--mix drums=loud: must be drums= and a number from 0 on"),
        (["--mix", "drums=-1"], "--mix drums=-1: must be drums= and a number from 0 on"),
        (["--hop", "17"], "hop=17: must be 1 to 16"),
        (["--lookahead", "13"], "lookahead=13: must be 0 to 12: each window of 16 frames has 4"),
        (["--frames", "20"], "frames=20: must be a positive multiple of 8"),
        (["--reserve-ms", "9"], "--reserve-ms: nothing is played that could be late: leave it out"),
        (["--input", "none.wav"], "none.wav: no samples to separate"),
        (["--tflite", "float16"], "--tflite float16: "),
        (["--frames", "0"], "--frames 0: must be 1 or more"),
        (["--latency-ms", "300"], "--latency-ms: chooses a window: leave it or --frames out"),
        (["--reserve-ms", "-1"], "--reserve-ms -1: must be 0 to 10000"),
        (["--stems", "bass"], "stem 'bass': no model has it"),
        (["--input", "no.wav"], "no.wav: no such file"),
        (["--input", "six.wav"], "six.wav: 6 channels: not supported"),
        (["--input", "nan.wav"], "nan.wav: 5000 samples are not finite"),
        (["--output", "new.mp3"], "--output new.mp3: only .wav files are written: choose such a"),
        (
            ["--record", "out", "--output", "out/vocals.wav"],
            "--output out/vocals.wav: a stem is recorded there: choose another name",
        ),
        (["--output", "there.wav"], "there.wav: already exists: move it, or choose another place"),
    ],
)
def test_bad_input_is_one_line(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, flags: list[str], message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    soundfile.write("song.wav", noise(5000), RATE_HZ)
    soundfile.write("six.wav", noise(5000, 6), RATE_HZ)
    soundfile.write("nan.wav", np.full(5000, np.nan), RATE_HZ, subtype="FLOAT")
    soundfile.write("none.wav", np.zeros((0, 2)), RATE_HZ)
    Path("there.wav").write_bytes(b"mine")
    before = sorted(path.name for path in tmp_path.iterdir())
    assert live(models, "--input", "song.wav", "--output", "new.wav", *flags) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if "stemforge: error: " in x]
    assert message in line
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert Path("there.wav").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--hop", "8"], "--hop: name --frames and --lookahead too, or none of the three"),
        (["--latency-ms", "nan"], "--latency-ms nan: must be 0 to 10000"),
        (["--latency-ms", "100"], "--latency-ms 100: 163 ms is the least: raise it"),
        (
            ["--runtime", "litert", "--tflite", "int8_mixed"],
            "no *-int8-mixed.tflite in it or in its subfolders",
        ),
    ],
)
def test_a_window_that_is_not_chosen(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    soundfile.write(tmp_path / "song.wav", noise(5000), RATE_HZ)
    places = ["--model", models, "--runtime", "tensorflow", "--input", tmp_path / "song.wav"]
    places += ["--output", tmp_path / "mix.wav"]
    assert main(["live", *map(str, places), *flags]) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if "stemforge: error: " in x]
    assert message in line
    assert not (tmp_path / "mix.wav").exists()

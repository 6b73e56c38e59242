"""Reading and writing audio files.

WAV, FLAC, OGG and MP3 go through soundfile, everything else through features/audio/ffmpeg.py.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from stemforge.errors import UserError
from stemforge.features.audio import ffmpeg
from stemforge.features.audio.ffmpeg import AudioError, AudioInfo
from stemforge.features.audio.formats import Subtype
from stemforge.features.signal.stft import Waveform
from stemforge.unfinished import finishing

# Full scale of the integer subtypes: sample = integer / scale, as ffmpeg and musdb do.
PCM_SCALE = {"PCM_16": 2**15, "PCM_24": 2**23}
BYTES_PER_SAMPLE = {"PCM_16": 2, "PCM_24": 3, "FLOAT": 4}


def file_info(path: Path) -> AudioInfo:
    """Length, rate and channels of an audio file that soundfile reads.

    Raises:
        AudioError: it is missing or of no format that soundfile knows.
    """
    try:
        info = soundfile.info(os.fsencode(path))
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{path}: not readable as audio: {error.error_string}") from None
    return AudioInfo(info.frames, info.samplerate, info.channels)


def read_audio(path: Path, *, start: int = 0, samples: int = -1) -> Waveform:
    """Reads part of a file that soundfile knows.

    Args:
        path: WAV, FLAC, OGG or MP3.
        start: first sample.
        samples: number of samples, or -1 for all to the end.

    Returns:
        float32 [samples, channels], full scale at 1; fewer samples at the end of the file.

    Raises:
        AudioError: it cannot be read.
    """
    try:
        with soundfile.SoundFile(os.fsencode(path)) as file:
            file.seek(min(start, file.frames))
            return _read(file, samples)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{path}: not readable as audio: {error.error_string}") from None


def _read(file: soundfile.SoundFile, samples: int) -> Waveform:
    if file.subtype != "PCM_16" or file.format != "WAV":
        waveform: Waveform = file.read(samples, dtype="float32", always_2d=True)
        return waveform
    # libsndfile's own conversion to float takes six times as long.
    integers = file.read(samples, dtype="int16", always_2d=True)
    scale = np.float32(1.0 / PCM_SCALE["PCM_16"])
    scaled: Waveform = np.multiply(np.ascontiguousarray(integers.T), scale, dtype=np.float32)
    return scaled.T


def stream_song(path: Path) -> tuple[AudioInfo, Iterator[Waveform]]:
    """Opens a song of any format, through soundfile or else ffmpeg.

    Returns:
        The container's own data, and an iterator of float32 [samples, channels], which raises
        AudioError where the file is damaged.

    Raises:
        UserError: no such file, or not audio.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        return file_info(path), _stream_file(path)
    except AudioError:
        try:
            streams = ffmpeg.probe_streams(path)
            if not streams:
                raise AudioError("no audio stream in it")
        except AudioError as error:
            raise UserError(f"{path}: not readable as audio: {error}") from None
        return streams[0], _stream_other(path, streams[0])


def _stream_file(path: Path) -> Iterator[Waveform]:
    try:
        with soundfile.SoundFile(os.fsencode(path)) as file:
            while len(block := _read(file, ffmpeg.CHUNK_SAMPLES)):
                yield block
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{path}: not readable as audio: {error.error_string}") from None


def _stream_other(path: Path, info: AudioInfo) -> Iterator[Waveform]:
    try:
        yield from ffmpeg.decode_stream(path, 0, info)
    except AudioError as error:
        raise AudioError(f"{path}: not readable as audio: {error}") from None


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
        float32 [samples, channels] and its sampling rate in Hz.

    Raises:
        UserError: no such file, not audio, or no samples in it.
    """
    info, blocks = stream_song(Path(path))
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


HEADER_BYTES = 512  # of a WAV file before its samples, at most


class WavWriter:
    """A WAV file being written.

    Args:
        file: soundfile's, open.
        subtype: of the file.
    """

    def __init__(self, file: soundfile.SoundFile, subtype: Subtype) -> None:
        self._file = file
        self._subtype = subtype

    def write(self, waveform: Waveform) -> int:
        """Appends float32 [samples, channels]; returns how many values were clipped."""
        if self._subtype == "FLOAT":
            self._file.write(waveform)
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
                yield WavWriter(file, subtype)
            clear_peak_time(temporary)
    except soundfile.LibsndfileError as error:
        raise UserError(f"{path}: cannot be written: {error.error_string}") from None

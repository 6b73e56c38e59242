"""Decoding one track of a corpus into WAV files, and measuring it for the manifest."""

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from stemforge import storage
from stemforge.errors import UserError
from stemforge.features.audio import ffmpeg
from stemforge.features.audio import files as audio
from stemforge.features.audio.ffmpeg import CHUNK_SAMPLES, AudioError, AudioInfo
from stemforge.features.audio.formats import SAMPLE_RATE_HZ, Subtype
from stemforge.features.corpus.corpora import CorpusTrack
from stemforge.features.corpus.manifest import Reject, Source, Track, TrackReason
from stemforge.features.corpus.sources import MIXTURE
from stemforge.features.signal.stft import Waveform


class Unfit(UserError):
    """Raised while the sources are read; it becomes the track's reject."""

    def __init__(self, reason: TrackReason, value: float | None, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.value = value


@dataclass(frozen=True)
class _Wav:
    """A source as a local file, with data about the file that it came from."""

    local: Path
    path: str
    clipped_values: int
    file_sha256: str


def decode_track(track: CorpusTrack, out: Path, *, root: str, subtype: Subtype) -> Track | Reject:
    """Decodes or measures a track, or says why it cannot be used.

    Decoded sources become `out`/<split>/<track>/<source>.wav; those of a .stem.mp4 file have
    exactly the samples that musdb returns at the subtype. A corpus of WAV files is measured in
    place and not copied. Memory does not grow with the song's length.

    Args:
        track: where its sources are.
        out: folder for the WAV files.
        root: folder of the corpus; paths of files that are not copied are relative to it.
        subtype: of the WAV files.

    Returns:
        The manifest's row, or a reject: decode_error, missing_stem, sample_rate or
        length_mismatch.
    """
    try:
        if not track.is_decoded:
            with _own_files(track, root) as wavs:
                return _measure(track, wavs, ffmpeg_version="")
        wavs = decode_sources(track, out, subtype)
        return _measure(track, wavs, ffmpeg_version=ffmpeg.version())
    except Unfit as unfit:
        return Reject(track.name, track.split, None, unfit.reason, unfit.value, str(unfit))
    except AudioError as error:
        return Reject(track.name, track.split, None, "decode_error", None, str(error))


def fetch_track(track: CorpusTrack, out: Path, *, root: str, subtype: Subtype) -> Track | Reject:
    """As decode_track, of a corpus at a URL: only a test track's WAV files are kept.

    Args:
        track: where its sources are.
        out: folder for WAV files; a test track's are copied there where they are not decoded.
        root: folder of the corpus.
        subtype: of decoded WAV files.

    Returns:
        The manifest's row, or a reject, as decode_track. A test track's paths start at `out`, and
        the others' at `root`: those of the corpus' own files.
    """
    if track.split != "test":
        with tempfile.TemporaryDirectory(prefix="stemforge-") as scratch:
            found = decode_track(track, Path(scratch), root=root, subtype=subtype)
        if isinstance(found, Reject):
            return found
        places = {name: storage.relative(place, root) for name, place in track.files.items()}
        sources = (replace(source, path=places[source.name]) for source in found.sources)
        return replace(found, sources=tuple(sources))
    if track.is_decoded:
        return decode_track(track, out, root=root, subtype=subtype)
    copies = dict(track.files)
    for name, place in track.files.items():
        if storage.size(place) is not None:  # else decode_track names it
            wav = out / track.split / track.name / f"{name}.wav"
            wav.parent.mkdir(parents=True, exist_ok=True)
            storage.download(place, wav)
            copies[name] = str(wav)
    return decode_track(replace(track, files=copies), out, root=str(out), subtype=subtype)


def decode_sources(track: CorpusTrack, out: Path, subtype: Subtype) -> dict[str, _Wav]:
    """Writes each source of a track as `out`/<split>/<track>/<source>.wav.

    Raises:
        Unfit: a source is missing or of another format.
        AudioError: a source cannot be decoded as a whole.
    """
    wavs: dict[str, _Wav] = {}

    def write(name: str, info: AudioInfo, blocks: Iterable[Waveform], file_sha256: str) -> _Wav:
        _check_format(name, info)
        wav = out / track.split / track.name / f"{name}.wav"
        wav.parent.mkdir(parents=True, exist_ok=True)
        with audio.open_wav(
            wav, channels=info.channels, sample_rate_hz=info.sample_rate_hz, subtype=subtype
        ) as writer:
            clipped = sum(map(writer.write, blocks))
        return _Wav(wav, wav.relative_to(out).as_posix(), clipped, file_sha256)

    if not track.streams:
        for name, place in track.files.items():
            with _local_copy(place) as path:
                info, blocks = audio.stream_song(path)
                wavs[name] = write(name, info, blocks, storage.file_sha256(path))
        return wavs
    with _local_copy(track.files[MIXTURE]) as path:
        streams = ffmpeg.probe_streams(path)
        if len(streams) <= max(track.streams.values()):
            needed = max(track.streams.values()) + 1
            raise Unfit(
                "missing_stem",
                float(len(streams)),
                f"{len(streams)} audio streams, {needed} are needed",
            )
        file_sha256 = storage.file_sha256(path)
        for name, number in track.streams.items():
            blocks = ffmpeg.decode_stream(path, number, streams[number])
            wavs[name] = write(name, streams[number], blocks, file_sha256)
    return wavs


@contextmanager
def _own_files(track: CorpusTrack, root: str) -> Iterator[dict[str, _Wav]]:
    with ExitStack() as stack:
        wavs = {}
        for name, place in track.files.items():
            local = stack.enter_context(_local_copy(place))
            _check_format(name, audio.file_info(local))
            wavs[name] = _Wav(local, storage.relative(place, root), 0, storage.file_sha256(local))
        yield wavs


@contextmanager
def _local_copy(place: str) -> Iterator[Path]:
    if storage.size(place) is None:
        raise Unfit("missing_stem", None, f"{place}: no such file")
    with storage.local_copy(place) as path:
        yield path


def _check_format(name: str, info: AudioInfo) -> None:
    if info.sample_rate_hz != SAMPLE_RATE_HZ:
        raise Unfit(
            "sample_rate",
            float(info.sample_rate_hz),
            f"{name} is at {info.sample_rate_hz} Hz, {SAMPLE_RATE_HZ} Hz is needed: "
            "a corpus is never resampled",
        )
    if info.channels > 2:
        raise Unfit("decode_error", float(info.channels), f"{name} has {info.channels} channels")


class _Meter:
    """Peak, energy and checksum of a source, gathered piece by piece."""

    def __init__(self) -> None:
        self.peak = 0.0
        self.energy = 0.0
        self.values = 0
        self._sha256 = hashlib.sha256()

    def add(self, waveform: Any) -> None:
        self.peak = max(self.peak, float(np.max(np.abs(waveform), initial=0.0)))
        self.energy += _energy(waveform)
        self.values += waveform.size
        self._sha256.update(np.ascontiguousarray(waveform, "<f4").data)

    @property
    def rms(self) -> float:
        return float(np.sqrt(self.energy / self.values)) if self.values else 0.0

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()


def _energy(waveform: Any) -> float:
    return float(np.sum(np.square(waveform, dtype=np.float64)))


def _measure(track: CorpusTrack, wavs: Mapping[str, _Wav], *, ffmpeg_version: str) -> Track:
    """Measures all sources, and the difference of mixture and sum of the stems."""
    lengths = {name: audio.file_info(wav.local).samples for name, wav in wavs.items()}
    samples = lengths[MIXTURE]
    for name, length in lengths.items():
        if length != samples:
            raise Unfit(
                "length_mismatch",
                float(length - samples),
                f"{name} has {length} samples, the mixture {samples}",
            )
    meters = {name: _Meter() for name in wavs}
    left = 0.0
    for start in range(0, samples, CHUNK_SAMPLES):
        pieces = {
            name: audio.read_audio(wav.local, start=start, samples=CHUNK_SAMPLES)
            for name, wav in wavs.items()
        }
        for name, piece in pieces.items():
            meters[name].add(piece)
        stems = [audio.as_stereo(piece) for name, piece in pieces.items() if name != MIXTURE]
        left += _energy(audio.as_stereo(pieces[MIXTURE]) - np.sum(stems, axis=0))
    channels = audio.file_info(wavs[MIXTURE].local).channels
    energy = meters[MIXTURE].energy * 2 / channels
    residual_db = float("nan")
    if track.is_complete and energy > 0.0:
        with np.errstate(divide="ignore"):
            residual_db = 10.0 * float(np.log10(left / energy))
    return Track(
        name=track.name,
        split=track.split,
        samples=samples,
        sample_rate_hz=SAMPLE_RATE_HZ,
        duration_s=samples / SAMPLE_RATE_HZ,
        residual_db=residual_db,
        ffmpeg=ffmpeg_version,
        sources=tuple(
            Source(
                name=name,
                path=wav.path,
                subtype=str(soundfile.info(wav.local).subtype),
                peak=meters[name].peak,
                rms=meters[name].rms,
                clipped_values=wav.clipped_values,
                file_sha256=wav.file_sha256,
                pcm_sha256=meters[name].sha256,
            )
            for name, wav in wavs.items()
        ),
    )

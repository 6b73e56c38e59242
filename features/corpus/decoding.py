"""Decoding one track of a corpus into WAV files, and measuring it for the manifest."""

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import zip_longest
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
    exactly the samples that musdb returns at the subtype. A source of several files or streams is
    their sum; shorter ones end in silence. A corpus with a WAV file for each source is measured in
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
        # One file a source: stage decode refuses others.
        places = {name: storage.relative(files[0], root) for name, files in track.files.items()}
        sources = (replace(source, path=places[source.name]) for source in found.sources)
        return replace(found, sources=tuple(sources))
    if track.is_decoded:
        return decode_track(track, out, root=root, subtype=subtype)
    copies = dict(track.files)
    for name, (place,) in track.files.items():
        if storage.size(place) is not None:  # else decode_track names it
            wav = out / track.split / track.name / f"{name}.wav"
            wav.parent.mkdir(parents=True, exist_ok=True)
            storage.download(place, wav)
            copies[name] = (str(wav),)
    return decode_track(replace(track, files=copies), out, root=str(out), subtype=subtype)


def decode_sources(track: CorpusTrack, out: Path, subtype: Subtype) -> dict[str, _Wav]:
    """Writes each source of a track as `out`/<split>/<track>/<source>.wav.

    Without a mixture in the corpus the longest file gives the length of all sources.

    Raises:
        Unfit: a source is missing or of another format.
        AudioError: a source cannot be decoded as a whole; its file is named.
    """
    folder = out / track.split / track.name
    folder.mkdir(parents=True, exist_ok=True)
    wavs: dict[str, _Wav] = {}
    samples = 0
    with ExitStack() as stack:
        copies = {place: stack.enter_context(_local_copy(place)) for place in track.places}
        sha256 = {place: storage.file_sha256(copy) for place, copy in copies.items()}
        streams = _probe(track, copies) if track.streams else []
        for name, places in track.files.items():
            parts = _open_parts(track, name, copies, streams)
            channels = max(part.info.channels for part in parts)
            clipped = 0
            with audio.open_wav(
                folder / f"{name}.wav",
                channels=channels,
                sample_rate_hz=SAMPLE_RATE_HZ,
                subtype=subtype,
            ) as writer:
                written = 0
                for block in _sum_blocks([part.blocks for part in parts], channels):
                    clipped += writer.write(block)
                    written += len(block)
                if name == MIXTURE and len(places) > 1:  # it is made of all files, and comes first
                    samples = written
                for start in range(written, samples, CHUNK_SAMPLES):
                    rest = min(CHUNK_SAMPLES, samples - start)
                    writer.write(np.zeros((rest, channels), np.float32))
            wavs[name] = _Wav(
                folder / f"{name}.wav",
                (folder / f"{name}.wav").relative_to(out).as_posix(),
                clipped,
                _sha256_of([sha256[place] for place in places]),
            )
    return wavs


@dataclass(frozen=True)
class _Part:
    """A file or stream that a source is the sum of."""

    info: AudioInfo
    blocks: Iterable[Waveform]


def _probe(track: CorpusTrack, copies: Mapping[str, Path]) -> list[AudioInfo]:
    """What the streams of a .stem.mp4 file are; all that are needed are there."""
    (place,) = track.places
    streams = ffmpeg.probe_streams(copies[place])
    needed = 1 + max(number for numbers in track.streams.values() for number in numbers)
    if len(streams) < needed:
        raise Unfit(
            "missing_stem",
            float(len(streams)),
            f"{len(streams)} audio streams, {needed} are needed",
        )
    return streams


def _open_parts(
    track: CorpusTrack, source: str, copies: Mapping[str, Path], streams: Sequence[AudioInfo]
) -> list[_Part]:
    """Opens all files or streams of a source; errors while they are read name the file."""
    places = track.files[source]
    parts = []
    if streams:
        (place,) = places
        for number in track.streams[source]:
            _check_format(source, streams[number])
            blocks = ffmpeg.decode_stream(copies[place], number, streams[number])
            parts.append(_Part(streams[number], _named(blocks, place)))
        return parts
    for place in places:
        with _naming(place):
            info, blocks = audio.stream_song(copies[place])
        _check_format(source if len(places) == 1 else place, info)
        parts.append(_Part(info, _named(blocks, place)))
    return parts


def _named(blocks: Iterable[Waveform], place: str) -> Iterator[Waveform]:
    with _naming(place):
        yield from blocks


@contextmanager
def _naming(place: str) -> Iterator[None]:
    """Puts the file in front of an error that does not name it."""
    try:
        yield
    except AudioError as error:
        message = str(error)
        # A local copy of a remote file is named by its own path.
        named = storage.name(place) in message
        raise AudioError(message if named else f"{place}: {message}") from None


def _sum_blocks(parts: Sequence[Iterable[Waveform]], channels: int) -> Iterator[Waveform]:
    """The sum of signals that come block by block; the one of a single signal is itself.

    Args:
        parts: float32 [samples, 1 or 2] each, all but the last block of CHUNK_SAMPLES.
        channels: of the sum; mono signals are on all of them.
    """
    if len(parts) == 1:
        yield from parts[0]
        return
    for blocks in zip_longest(*parts, fillvalue=np.zeros((0, 1), np.float32)):
        total = np.zeros((max(map(len, blocks)), channels))
        for block in blocks:
            total[: len(block)] += block
        yield total.astype(np.float32)


def _sha256_of(sums: Sequence[str]) -> str:
    """The sha256 of one file, or of the lines of several files' sha256."""
    if len(sums) == 1:
        return sums[0]
    return hashlib.sha256("".join(f"{line}\n" for line in sums).encode()).hexdigest()


@contextmanager
def _own_files(track: CorpusTrack, root: str) -> Iterator[dict[str, _Wav]]:
    with ExitStack() as stack:
        wavs = {}
        for name, (place,) in track.files.items():
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

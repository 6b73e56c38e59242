"""Decoding one track of a corpus into WAV files and its row of the manifest."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from features import audio
from features.audio import AudioError, Subtype
from features.corpora import CorpusTrack
from features.stft import Waveform
from features.tracks import MIXTURE, Reject, Source, Track


class _Unfit(Exception):
    """Carries a track's reject out of the loop over its sources."""

    def __init__(self, reason: str, value: float | None, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.value = value


def decode_track(track: CorpusTrack, out: Path, *, root: Path, subtype: Subtype) -> Track | Reject:
    """Decodes a track, or tells why it cannot be used.

    The streams of a .stem.mp4 file become `out`/<split>/<track>/<source>.wav, with exactly
    the samples that musdb returns at the subtype. Audio files of their own are measured
    where they lie and not copied.

    Args:
        track: where its sources lie.
        out: folder for the WAV files.
        root: folder of the corpus; paths of files that are not copied are relative to it.
        subtype: of the WAV files.

    Returns:
        The manifest's row, or a reject: decode_error, missing_stem, sample_rate or
        length_mismatch.
    """
    try:
        if track.streams:
            version = audio.run_ffmpeg("ffmpeg", "-version").split()[2].decode()
            decoded = _decode_stem_file(track, out, subtype)
        else:
            version = ""
            decoded = _read_files(track, root)
        return _measure(track, decoded, version)
    except _Unfit as unfit:
        return Reject(track.name, None, unfit.reason, unfit.value, str(unfit))
    except AudioError as error:
        return Reject(track.name, None, "decode_error", None, str(error))


def _decode_stem_file(
    track: CorpusTrack, out: Path, subtype: Subtype
) -> Iterator[tuple[Source, Waveform]]:
    path = track.files[MIXTURE]
    streams = audio.probe_streams(path)
    if len(streams) <= max(track.streams.values()):
        raise _Unfit(
            "missing_stem",
            float(len(streams)),
            f"{len(streams)} audio streams, {max(track.streams.values()) + 1} are needed",
        )
    file_sha256 = _file_sha256(path)
    folder = out / track.split / track.name
    folder.mkdir(parents=True, exist_ok=True)
    for name, number in track.streams.items():
        info = streams[number]
        _check_format(name, info)
        waveform, clipped = audio.quantise(audio.decode_stream(path, number, info), subtype)
        wav = folder / f"{name}.wav"
        audio.write_wav(wav, waveform, sample_rate_hz=info.sample_rate_hz, subtype=subtype)
        relative = wav.relative_to(out).as_posix()
        yield _source(name, relative, subtype, waveform, clipped, file_sha256), waveform


def _read_files(track: CorpusTrack, root: Path) -> Iterator[tuple[Source, Waveform]]:
    for name, path in track.files.items():
        if not path.is_file():
            raise _Unfit("missing_stem", None, f"{path}: no such file")
        _check_format(name, audio.file_info(path))
        waveform = audio.read_audio(path)
        relative = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
        subtype = audio.file_subtype(path)
        yield _source(name, relative, subtype, waveform, 0, _file_sha256(path)), waveform


def _check_format(name: str, info: audio.AudioInfo) -> None:
    if info.sample_rate_hz != audio.SAMPLE_RATE_HZ:
        raise _Unfit(
            "sample_rate",
            float(info.sample_rate_hz),
            f"{name} is at {info.sample_rate_hz} Hz, {audio.SAMPLE_RATE_HZ} Hz is needed: "
            "a corpus is never resampled",
        )
    if info.channels > 2:
        raise _Unfit("decode_error", float(info.channels), f"{name} has {info.channels} channels")


def _source(
    name: str, path: str, subtype: str, waveform: Waveform, clipped: int, file_sha256: str
) -> Source:
    power = np.mean(np.square(waveform, dtype=np.float64)) if waveform.size else 0.0
    return Source(
        name=name,
        path=path,
        subtype=subtype,
        peak=float(np.max(np.abs(waveform), initial=0.0)),
        rms=float(np.sqrt(power)),
        clipped_values=clipped,
        file_sha256=file_sha256,
        pcm_sha256=hashlib.sha256(np.ascontiguousarray(waveform, "<f4").data).hexdigest(),
    )


def _measure(track: CorpusTrack, decoded: Iterator[tuple[Source, Waveform]], ffmpeg: str) -> Track:
    """Collects the sources and compares mixture and sum of stems; the mixture comes first."""
    sources = []
    mixture = residual = np.zeros((0, 2), np.float32)
    for source, waveform in decoded:
        if source.name == MIXTURE:
            mixture, residual = waveform, waveform.copy()
        elif len(waveform) != len(mixture):
            raise _Unfit(
                "length_mismatch",
                float(len(waveform) - len(mixture)),
                f"{source.name} has {len(waveform)} samples, the mixture {len(mixture)}",
            )
        else:
            residual = residual - waveform
        sources.append(source)
    energy = float(np.sum(np.square(mixture, dtype=np.float64)))
    left = float(np.sum(np.square(residual, dtype=np.float64)))
    residual_db = float("nan")
    if track.is_complete and energy > 0.0:
        with np.errstate(divide="ignore"):
            residual_db = 10.0 * float(np.log10(left / energy))
    return Track(
        name=track.name,
        split=track.split,
        samples=len(mixture),
        sample_rate_hz=audio.SAMPLE_RATE_HZ,
        duration_s=len(mixture) / audio.SAMPLE_RATE_HZ,
        residual_db=residual_db,
        ffmpeg=ffmpeg,
        sources=tuple(sources),
    )


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Copies of training songs in another pitch and tempo, made ahead because that is slow.

All stems of a copy are changed by the same values, so that the music stays together. Demucs draws
whole semitones from -2 to 2, and tempos around 1 with 12 % at most (Defossez, "Hybrid spectrogram
and waveform source separation", 2021; its code's defaults); Spleeter, on spectrograms, semitones
from -1 to 1 and tempos from 0.9 to 1.1 (the defaults of its code's functions). Here both are
uniform between two numbers.

The values are a function of (seed, song, number of the copy) alone, by a counter-based generator as
in train/augmentation.py: another song in the corpus changes no copy.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stemforge.errors import UserError
from stemforge.features.audio import ffmpeg
from stemforge.features.audio.ffmpeg import CHUNK_SAMPLES, AudioError
from stemforge.features.audio.files import PCM_SCALE, file_info, open_wav
from stemforge.features.audio.formats import SAMPLE_RATE_HZ, Subtype
from stemforge.features.audio.stretching import change_pitch_and_tempo
from stemforge.features.corpus.copy_config import CopyConfig
from stemforge.features.corpus.corpora import CorpusTrack
from stemforge.features.corpus.decoding import decode_track
from stemforge.features.corpus.manifest import Reject, Track, copy_name
from stemforge.features.corpus.sources import MIXTURE
from stemforge.features.shards.blocks import name_hash
from stemforge.features.shards.validity import Thresholds, reject_track
from stemforge.features.signal.stft import Waveform
from stemforge.unfinished import remove, temporary_name

_WORD = 2**64 - 1
# Largest sample of a copy of integers: 0.01 dB below full scale, and eight stems round to less.
HIGHEST = 0.999


@dataclass(frozen=True)
class Copy:
    """A copy to make.

    Attributes:
        track: the song.
        number: of the copy, from 1.
        semitones: its pitch against the song's.
        tempo: its speed against the song's.
    """

    track: Track
    number: int
    semitones: float
    tempo: float

    @property
    def name(self) -> str:
        """Of the copy, as a track."""
        return copy_name(self.track.name, self.number)


def draw_copy(track: Track, number: int, config: CopyConfig) -> Copy:
    """The values of one copy."""
    key = np.array([config.seed & _WORD, int(name_hash(track.name)[:16], 16)], np.uint64)
    counter = np.array([0, number, 0, 0], np.uint64)
    values = np.random.Generator(np.random.Philox(counter=counter, key=key)).random(2)
    ranges = (config.pitch_semitones, config.tempo)
    drawn = [low + (high - low) * float(u) for u, (low, high) in zip(values, ranges, strict=True)]
    return Copy(track, number, *drawn)


def plan_copies(
    tracks: Sequence[Track], config: CopyConfig, thresholds: Thresholds
) -> tuple[list[Copy], list[str]]:
    """Which copies are made.

    Args:
        tracks: of the train split.
        config: of the copies.
        thresholds: of the features. A mixture that its stems do not add up to would be hidden by
            a copy, whose mixture is their sum.

    Returns:
        The copies, in the order of the manifest; and the songs that get none, since features
        reject them, or since samples are not finite.
    """
    bad = [track.name for track in tracks if not _is_good(track, thresholds)]
    good = [track for track in tracks if track.name not in {*bad}]
    numbers = range(1, config.per_song + 1)
    return [draw_copy(track, number, config) for track in good for number in numbers], bad


def _is_good(track: Track, thresholds: Thresholds) -> bool:
    finite = all(math.isfinite(source.rms) for source in track.sources)
    return finite and reject_track(track, thresholds) is None


def write_copy(copy: Copy, files: Mapping[str, Path], out: Path, *, subtype: Subtype) -> Track:
    """Writes `out`/train/<name>/<source>.wav for each source, and measures them.

    The mixture is the sum of the stems as they are in their files. Where they are not known to be
    all of the song, what is left of its mixture is changed too, and part of the sum. Where a sample
    would exceed full scale, all sources get one gain that prevents it; FLOAT needs none. Memory
    does not grow with the song's length.

    Args:
        copy: what to make.
        files: the song's WAV files by source, the mixture first.
        out: folder of all copies.
        subtype: of the WAV files.

    Returns:
        The copy's row of the manifest; its paths start at `out`.

    Raises:
        UserError: a file cannot be read or written, or has changed its length since it was decoded.
    """
    channels = {name: _channels_of(path, copy.track) for name, path in files.items()}
    folder = out / "train" / copy.name
    folder.mkdir(parents=True, exist_ok=True)
    places = {name: folder / f"{name}.wav" for name in files}
    scratch = temporary_name(folder / "changed", by_process=True)
    try:
        try:
            changed = change_pitch_and_tempo(
                [*files.values()],
                scratch,
                channels=sum(channels.values()),
                semitones=copy.semitones,
                tempo=copy.tempo,
            )
        except AudioError as error:
            raise UserError(f"{copy.name}: {error}") from None
        _write_sources(_Sources(changed, channels, copy.track.is_complete), places, subtype)
    finally:
        remove(scratch)
    wavs = {name: (str(place),) for name, place in places.items()}
    found = decode_track(
        CorpusTrack(copy.name, "train", wavs, {}, copy.track.is_complete),
        out, root=str(out), subtype=subtype,
    )  # fmt: skip
    if isinstance(found, Reject):
        raise UserError(f"{folder}: {found.detail}: another process has changed it: run this again")
    return replace(found, ffmpeg=ffmpeg.version())


def _channels_of(path: Path, track: Track) -> int:
    """Channels of a song's file, which must be as long as at decoding: ffmpeg would cut others."""
    info = file_info(path)
    if (info.samples, info.sample_rate_hz) != (track.samples, track.sample_rate_hz):
        raise UserError(
            f"{path}: {info.samples} samples at {info.sample_rate_hz} Hz, but {track.samples} at "
            f"{track.sample_rate_hz} Hz when it was decoded: run `dvc repro copies`"
        )
    return info.channels


@dataclass(frozen=True)
class _Sources:
    """The changed sources of a song, read piece by piece.

    Attributes:
        changed: float32 [samples, channels of all sources].
        channels: of each source, in the same order; the mixture comes first.
        is_complete: whether the stems are all of the mixture.
    """

    changed: NDArray[np.float32]
    channels: Mapping[str, int]
    is_complete: bool

    def read(self, start: int, gain: float, grid: float | None) -> dict[str, Waveform]:
        """A piece of each source after a gain; stems are rounded to 1 / grid."""
        piece = np.asarray(self.changed[start : start + CHUNK_SAMPLES], np.float64) * gain
        ends = np.cumsum([*self.channels.values()])[:-1]
        parts = dict(zip(self.channels, np.split(piece, ends, axis=1), strict=True))
        mixture = parts.pop(MIXTURE)
        wide = max(self.channels.values())
        total = np.zeros((len(piece), wide))
        if not self.is_complete:
            total += mixture
            for part in parts.values():
                total -= part
        if grid:
            parts = {name: np.rint(part * grid) / grid for name, part in parts.items()}
        for part in parts.values():
            total += part  # mono is on both channels
        return {name: part.astype(np.float32) for name, part in {MIXTURE: total, **parts}.items()}

    def pieces(self) -> range:
        """First samples of all pieces."""
        return range(0, len(self.changed), CHUNK_SAMPLES)


def _write_sources(sources: _Sources, places: Mapping[str, Path], subtype: Subtype) -> None:
    """Writes all sources of a copy, the mixture as their sum."""
    grid = float(PCM_SCALE[subtype]) if subtype in PCM_SCALE else None
    gain = 1.0
    if grid:
        peaks = [
            float(np.max(np.abs(part), initial=0.0))
            for start in sources.pieces()
            for part in sources.read(start, 1.0, None).values()
        ]
        gain = HIGHEST / max([HIGHEST, *peaks])
    wide = max(sources.channels.values())
    with ExitStack() as stack:
        writers = {
            name: stack.enter_context(open_wav(
                place,
                channels=wide if name == MIXTURE else sources.channels[name],
                sample_rate_hz=SAMPLE_RATE_HZ,
                subtype=subtype,
            ))
            for name, place in places.items()
        }  # fmt: skip
        for start in sources.pieces():
            for name, part in sources.read(start, gain, grid).items():
                writers[name].write(part)

"""The sounds of a report: reads a song's sources, cuts its excerpts, encodes them as Opus."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from stemforge import storage
from stemforge.errors import UserError
from stemforge.eval.leaderboard.about import About
from stemforge.eval.leaderboard.comparable import count_frames, is_same_song
from stemforge.eval.report.excerpts import Excerpt, choose_excerpts, outline
from stemforge.eval.report.pages import MIXTURE_SOUND, method_sound, true_sound
from stemforge.eval.scoring.estimates import read_estimates
from stemforge.eval.scoring.scores import MUSEVAL
from stemforge.features.audio import files as audio
from stemforge.features.audio.codecs import open_output
from stemforge.features.corpus.sources import MIXTURE
from stemforge.features.signal.stft import Waveform
from stemforge.pipelines.scoring.plan import TrackSources

COLUMNS = 800  # of a waveform's outline
# What one process may need: mixture and another source of ten minutes in float32, and libraries.
PROCESS_BYTES = 2**30


@dataclass(frozen=True)
class Sources:
    """What can be heard of a song.

    Attributes:
        track: its mixture and true stems.
        estimates: places of files by method and target.
        notes: what is known to be missing of the estimates, a line each.
    """

    track: TrackSources
    estimates: Mapping[str, Mapping[str, str]]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cut:
    """A song's excerpts.

    Attributes:
        seconds: length of the song.
        sample_rate_hz: of it.
        outline: of its mixture, in percent of full scale.
        excerpts: its parts.
        waveforms: float32 [samples, 2] of all parts one after the other, by the sounds' names.
        notes: what is missing or was changed, a line each.
    """

    seconds: float
    sample_rate_hz: int
    outline: Sequence[int]
    excerpts: Sequence[Excerpt]
    waveforms: Mapping[str, Waveform]
    notes: Sequence[str]

    def places(self) -> list[tuple[str, float, float]]:
        """Kind, start and end in s of each excerpt."""
        rate_hz = self.sample_rate_hz
        return [(part.kind, part.start / rate_hz, part.end / rate_hz) for part in self.excerpts]


def cut_song(
    sources: Sources, sdr_db: Sequence[float], about: About, *, frames: int, seconds: float
) -> Cut:
    """Reads a song's sources one after the other, and keeps its excerpts.

    Args:
        sources: of the song.
        sdr_db: a value a frame, by which excerpts are chosen; see choose_excerpts.
        about: of the leaderboard.
        frames: that were scored; 0: it is not known.
        seconds: length of an excerpt.

    Raises:
        UserError: the mixture or a true stem cannot be read, or is not of the scored song.
    """
    with sources.track.open() as files:
        info = audio.file_info(files[MIXTURE])
        samples, rate_hz = info.samples, info.sample_rate_hz
        how = replace(MUSEVAL, window_s=about.window_s, hop_s=about.hop_s)
        here = count_frames(samples, rate_hz, how)
        if frames and not is_same_song(frames, here):
            raise UserError(f"{frames} frames were scored, the corpus' song has {here}")
        excerpts = choose_excerpts(
            sdr_db, hop_s=about.hop_s, window_s=about.window_s, samples=samples,
            sample_rate_hz=rate_hz, seconds=seconds,
        )  # fmt: skip
        mixture = audio.as_stereo(audio.read_audio(files[MIXTURE]))
        shape = outline(mixture, columns=COLUMNS)
        waveforms = {MIXTURE_SOUND: _joined(mixture, excerpts)}
        del mixture
        for stem, path in files.items():
            if stem == MIXTURE:
                continue
            waveform = audio.as_stereo(audio.read_audio(path))
            if len(waveform) != samples:
                raise UserError(f"{stem} has {len(waveform)} samples, the mixture {samples}")
            waveforms[true_sound(stem)] = _joined(waveform, excerpts)
    notes = [*sources.notes]
    for method, places in sources.estimates.items():
        for target, place in places.items():
            with storage.local_copy(place) as path:
                found, remarks = read_estimates(
                    {target: path}, samples=samples, sample_rate_hz=rate_hz
                )
            notes += [f"{method}: {target}: {remark.detail}" for remark in remarks]
            if target in found:
                waveforms[method_sound(method, target)] = _joined(found[target], excerpts)
    return Cut(samples / rate_hz, rate_hz, shape, excerpts, waveforms, notes)


def _joined(waveform: Waveform, excerpts: Sequence[Excerpt]) -> Waveform:
    """The excerpts alone, copied: the rest of the waveform can be freed."""
    if len(excerpts) == 1:
        return waveform[excerpts[0].start : excerpts[0].end].copy()
    return np.concatenate([waveform[part.start : part.end] for part in excerpts])


def encode(waveform: Waveform, *, sample_rate_hz: int, bitrate: str) -> bytes:
    """An Opus file, which plays at 48 kHz.

    Args:
        waveform: float32 [samples, 2].
        sample_rate_hz: of it.
        bitrate: such as "48k".

    Raises:
        UserError: it cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="stemforge-") as scratch:
        path = Path(scratch) / "sound.opus"
        with open_output(
            path, codec="opus", channels=2, sample_rate_hz=sample_rate_hz, bitrate=bitrate
        ) as writer:
            writer.write(waveform)
        return path.read_bytes()

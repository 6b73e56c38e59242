"""SDR of a few validation songs, measured while a net trains."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from stemforge.errors import UserError
from stemforge.eval.scoring.track_metrics import utterance_sdr
from stemforge.eval.separation.filters import Estimates, MaskFilter
from stemforge.eval.separation.streaming import StereoSeparation
from stemforge.features.audio.ffmpeg import AudioError
from stemforge.features.audio.files import as_stereo, file_info, read_audio
from stemforge.features.corpus.manifest import Manifest, Track, read_manifest
from stemforge.features.corpus.sources import MIXTURE
from stemforge.features.signal.stft import Waveform
from stemforge.pipelines.paths import TRACKS
from stemforge.train.model import Model

MOST_S = 60.0  # of audio, all songs together
WITHOUT = "or set train.sdr_songs=null, which needs train.select_by=valid_loss"


@dataclass(frozen=True)
class Song:
    """A validation song, or the middle of it.

    Attributes:
        name: the track's.
        mixture: float32 [samples, 2], full scale at 1, at the features' rate.
        stems: the true stems that are not silent in it, of the same shape.
    """

    name: str
    mixture: Waveform
    stems: dict[str, Waveform]


class ValidationSDR:
    """Measures a model's SDR: the mean over songs of the mean over their stems.

    It is the score of the Music Demixing Challenge 2021, eval.scoring.track_metrics.utterance_sdr.
    Songs are separated as by Separator's defaults with this model alone: one stem by the net's
    own (direct) mask, the stems of a joint model by ratio masks of energies.

    Args:
        model: whose Keras model still learns.
        songs: what is separated.
    """

    def __init__(self, model: Model, songs: Sequence[Song]) -> None:
        self._model = model
        self._songs = songs
        net = model.keras_model
        self._run = tf.function(lambda mixture: net(mixture, training=False))

    def measure(self) -> float:
        """The SDR with the model's current weights, in dB."""
        scores = []
        for song in self._songs:
            found = self._separate(song.mixture)
            scores.append(
                np.mean([utterance_sdr(true, found[s]) for s, true in song.stems.items()])
            )
        return float(np.mean(scores))

    def _separate(self, mixture: Waveform) -> dict[str, Waveform]:
        """From float32 [samples, 2] to the same for each stem."""
        model = self._model
        several = len(model.stems) > 1
        separation = StereoSeparation(
            self._estimate,
            MaskFilter(
                range(len(model.stems)),
                mask="ratio" if several else "direct",
                exponent=2.0,
                extension="zeros",
            ),
            wanted=len(model.stems),
            frames=model.net.frames,
            bins=model.net.bins,
            overlap_frames=0,
            framing=model.interface.framing,
        )
        parts = zip(separation.push(mixture), separation.finish(), strict=True)
        return dict(zip(model.stems, map(np.concatenate, parts), strict=True))

    def _estimate(self, mixture: Estimates) -> Estimates:
        """Runs the net: [frames, bins, 2] to [stems, frames, bins, 2]."""
        found: dict[str, Any] = self._run(tf.constant(mixture[None]))
        return np.concatenate([found[stem].numpy() for stem in self._model.stems])


def read_songs(stems: Sequence[str], many: int, *, place: Path = TRACKS) -> list[Song]:
    """Reads validation songs from what stage decode wrote.

    Args:
        stems: that the model estimates.
        many: at most this many songs, see `choose`; of each the middle MOST_S / many seconds.
        place: the manifest.

    Raises:
        UserError: the manifest or its audio is missing or damaged, it has no validation song or
            not these stems, or they are silent in all songs that were chosen.
    """
    label = f"train.sdr_songs={many}"
    if not place.exists():
        raise UserError(
            f"{label}: needs the decoded songs, but there is no {place}: run `dvc repro decode`, "
            f"{WITHOUT}"
        )
    manifest = read_manifest(place)
    if manifest.corpus:
        raise UserError(
            f"{label}: the validation songs were not decoded to this machine, but stayed in "
            f"{manifest.corpus}: decode a local corpus, {WITHOUT}"
        )
    if missing := [stem for stem in stems if stem not in manifest.stems]:
        raise UserError(f"{label}: {place} has no {missing[0]}: run `dvc repro decode`, {WITHOUT}")
    chosen = choose(manifest.split("valid"), many)
    if not chosen:
        raise UserError(f"{label}: {place} has no validation songs: use more songs, {WITHOUT}")
    songs = [_read(manifest, track, stems, most_s=MOST_S / len(chosen)) for track in chosen]
    sounding = [song for song in songs if song.stems]
    if not sounding:
        raise UserError(
            f"{label}: {', '.join(stems)}: silent in the part that is measured of "
            f"{', '.join(track.name for track in chosen)}: measure more songs, {WITHOUT}"
        )
    return sounding


def choose(tracks: Sequence[Track], many: int) -> list[Track]:
    """At most `many` tracks, evenly spread over them as they are sorted by name."""
    ordered = sorted(tracks, key=lambda track: track.name)
    picks = np.linspace(0, len(ordered) - 1, min(many, len(ordered))).round()
    return [ordered[int(pick)] for pick in picks]


def _read(manifest: Manifest, track: Track, stems: Sequence[str], *, most_s: float) -> Song:
    samples = min(track.samples, round(most_s * track.sample_rate_hz))
    start = (track.samples - samples) // 2
    found = {}
    for source in (MIXTURE, *stems):
        path = manifest.path(track, source)
        try:
            if file_info(path).samples != track.samples:
                raise AudioError(f"{path}: another length than in {TRACKS}")
            found[source] = as_stereo(read_audio(path, start=start, samples=samples))
        except AudioError as error:
            raise UserError(f"{error}: run `dvc repro decode`, {WITHOUT}") from None
    mixture = found.pop(MIXTURE)
    return Song(
        track.name, mixture, {s: waveform for s, waveform in found.items() if waveform.any()}
    )

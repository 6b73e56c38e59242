"""Measures how far an export is from Keras, in magnitudes and in waveforms."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemforge.eval.scoring.track_metrics import utterance_sdr
from stemforge.eval.separation.separator import Nets, Separator
from stemforge.features.signal.stft import Waveform, magnitude_stft
from stemforge.train.model import Model
from stemforge.train.model_files import Interface

Outputs = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Clip:
    """A piece of real music for measurements.

    Attributes:
        mixture: float32 [samples, 2], at the models' rate.
        stems: true stems, of the same shape.
    """

    mixture: Waveform
    stems: Mapping[str, Waveform]


@dataclass(frozen=True)
class Parity:
    """The difference between an export's output and Keras', on the same input.

    Attributes:
        finite: whether every output value is finite.
        max_difference: largest absolute difference, in the output's units.
        rms_difference: root mean square difference, in the output's units.
        relative_difference: rms_difference over the rms of Keras' output.
        sdr_change_db: the export's SDR minus Keras', of whole clips (track_metrics.utterance_sdr),
            mean over clips; None where no true stem is known.
    """

    finite: bool
    max_difference: float
    rms_difference: float
    relative_difference: float
    sdr_change_db: float | None


def compare(
    export: NDArray[np.float32],
    truth: NDArray[np.float32],
    *,
    sdr_change_db: float | None = None,
) -> Parity:
    """Measures the difference of two outputs of the same shape."""
    difference = export.astype(np.float64) - truth
    rms = _rms(difference)
    level = _rms(truth)
    return Parity(
        finite=bool(np.isfinite(export).all()),
        max_difference=float(np.max(np.abs(difference))),
        rms_difference=rms,
        relative_difference=rms / level if level > 0.0 else rms,
        sdr_change_db=sdr_change_db,
    )


def _rms(values: NDArray[Any]) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


class KerasNets:
    """The nets as Keras runs them: the reference for exports.

    Args:
        model: a trained model.
    """

    def __init__(self, model: Model) -> None:
        self.interface = model.interface
        self._model = model.keras_model

    def __call__(self, mixture: NDArray[np.float32]) -> Outputs:
        """See eval.separation.Nets."""
        found = self._model(mixture[None], training=False)
        return {stem: np.asarray(found[stem])[0] for stem in self.interface.stems}


class ExportedNets:
    """The nets of an export.

    Args:
        interface: its inputs and outputs.
        run: from float32 [1, frames, bins, 2] to the same by stem.
    """

    def __init__(self, interface: Interface, run: Callable[[NDArray[np.float32]], Outputs]) -> None:
        self.interface = interface
        self._run = run

    def __call__(self, mixture: NDArray[np.float32]) -> Outputs:
        """See eval.separation.Nets."""
        return {stem: values[0] for stem, values in self._run(mixture[None]).items()}


def measure_nets(
    exported: Sequence[Nets], keras: Sequence[Nets], clips: Sequence[Clip]
) -> dict[str, Parity]:
    """Compares magnitudes and waveforms of exported nets with Keras'.

    Args:
        exported: nets of all stems.
        keras: the same nets, run by Keras.
        clips: the input.

    Returns:
        By stem.
    """
    ours, theirs = (_magnitudes(nets, clips) for nets in (exported, keras))
    ours_sound, theirs_sound = (separate_clips(nets, clips) for nets in (exported, keras))
    return {
        stem: compare(
            np.stack(ours[stem]),
            np.stack(theirs[stem]),
            sdr_change_db=sdr_change(
                [found[stem] for found in ours_sound],
                [found[stem] for found in theirs_sound],
                [clip.stems.get(stem) for clip in clips],
            ),
        )
        for stem in ours
    }


def _magnitudes(models: Sequence[Nets], clips: Sequence[Clip]) -> dict[str, list[Any]]:
    """Estimates of the first segment of each clip."""
    interface = models[0].interface
    samples = interface.framing.span(interface.frames)
    found: dict[str, list[Any]] = {}
    for clip in clips:
        part = np.zeros((samples, 2), np.float32)
        part[: len(clip.mixture)] = clip.mixture[:samples]
        mixture = magnitude_stft(part, interface.framing, bins=interface.bins)
        for nets in models:
            for stem, estimate in nets(mixture).items():
                found.setdefault(stem, []).append(estimate)
    return found


def separate_clips(models: Sequence[Nets], clips: Sequence[Clip]) -> list[Outputs]:
    """Separates each clip by these nets: float32 [samples, 2] by stem."""
    separator = Separator(models)
    rate_hz = separator.sample_rate_hz
    return [separator.separate(clip.mixture, sample_rate_hz=rate_hz) for clip in clips]


def sdr_change(
    ours: Sequence[Waveform], theirs: Sequence[Waveform], truth: Sequence[Waveform | None]
) -> float | None:
    """Mean of our SDR minus theirs, in dB, over the clips whose true stem is known and audible."""
    changes = [
        utterance_sdr(true, our) - utterance_sdr(true, their)
        for our, their, true in zip(ours, theirs, truth, strict=True)
        if true is not None and np.any(true)
    ]
    return float(np.mean(changes)) if changes else None


def measure_separation(
    separate: Callable[[Waveform], Outputs], keras: Sequence[Nets], clips: Sequence[Clip]
) -> dict[str, Parity]:
    """Compares waveforms of an export with those of Separator with the same nets.

    Args:
        separate: from float32 [samples, 2] to the same by stem.
        keras: nets of all stems.
        clips: the input.

    Returns:
        By stem.
    """
    ours, theirs = [separate(clip.mixture) for clip in clips], separate_clips(keras, clips)
    return {
        stem: compare(
            np.concatenate([found[stem] for found in ours]),
            np.concatenate([found[stem] for found in theirs]),
            sdr_change_db=sdr_change(
                [found[stem] for found in ours],
                [found[stem] for found in theirs],
                [clip.stems.get(stem) for clip in clips],
            ),
        )
        for stem in theirs[0]
    }


def add_segments(
    separate: Callable[[Waveform], Outputs], waveform: Waveform, interface: Interface
) -> Outputs:
    """Separates a song by an export that takes segments, as an app does.

    Args:
        separate: the export, from float32 [(frames - 1) * hop + length, 2] to the same by stem.
        waveform: float32 [samples, 2].
        interface: of the export.

    Returns:
        float32 [samples, 2] by stem.
    """
    framing = interface.framing
    length, span = framing.length_samples, framing.span(interface.frames)
    advance = interface.frames * framing.step_samples
    segments = -(-framing.cover(len(waveform)) // interface.frames)
    padded = np.zeros(((segments - 1) * advance + span, 2), np.float32)
    padded[length : length + len(waveform)] = waveform
    sums = {stem: np.zeros_like(padded) for stem in interface.stems}
    for start in range(0, segments * advance, advance):
        part = slice(start, start + span)
        for stem, found in separate(padded[part]).items():
            sums[stem][part] += found
    return {stem: total[length : length + len(waveform)] for stem, total in sums.items()}

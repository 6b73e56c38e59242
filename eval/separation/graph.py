"""The TensorFlow twin of eval.separation: from waveform to waveforms in one graph.

It does the same as Separator with its defaults: ratio masks of energies, or the net's own mask
for a single stem, and zeros above the nets' highest bin.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from stemforge.features.signal.masks import EPSILON
from stemforge.features.signal.stft_tf import inverse_stft, stft
from stemforge.train.model_files import Interface
from stemforge.train.nets.protocol import Lowered


@dataclass(frozen=True)
class GraphNets:
    """One model's nets in a graph.

    Attributes:
        interface: inputs and outputs.
        lowered: the nets, with values that are tensors or variables.
    """

    interface: Interface
    lowered: Lowered

    def __call__(self, mixture: Any) -> dict[str, Any]:
        """From float32 [batch, frames, bins, 2], magnitudes, to the same for each stem."""
        found = self.lowered.run(mixture, self.lowered.values)
        return dict(zip(self.interface.stems, found, strict=True))


def separate_segment(waveform: Any, models: Sequence[GraphNets], *, frames: int) -> dict[str, Any]:
    """Separates one segment; the overlapped sum of consecutive segments gives the song's stems.

    `frame_length_samples` zeros come before the song, as in eval.separation.streaming. Segments
    start at every multiple of frames * hop samples of the result.

    Args:
        waveform: float32 [(frames - 1) * hop + length, 2], full scale at 1.
        models: nets of all stems.
        frames: number of frames that the nets process at once.

    Returns:
        float32 of the waveform's shape by stem; the STFT's windows fade both ends.
    """
    interface = models[0].interface
    framing, bins = interface.framing, interface.bins
    real, imaginary = (part[..., :bins] for part in stft(waveform, framing))
    magnitude = tf.sqrt(real * real + imaginary * imaginary)
    mixture = tf.ensure_shape(tf.transpose(magnitude, [0, 2, 1]), [frames, bins, 2])[None]
    estimates: dict[str, Any] = {}
    for model in models:
        estimates |= model(mixture)
    found = {}
    for stem, mask in _masks(estimates, mixture).items():
        mask = tf.transpose(mask[0], [0, 2, 1])
        found[stem] = inverse_stft(mask * real, mask * imaginary, framing)
    return found


def _masks(estimates: Mapping[str, Any], mixture: Any) -> dict[str, Any]:
    """features.signal.masks' ratio masks, or the direct one of a single stem."""
    if len(estimates) == 1:
        return {stem: tf.math.divide_no_nan(e, mixture) for stem, e in estimates.items()}
    energies = {stem: e * e for stem, e in estimates.items()}
    total = tf.add_n([*energies.values()]) + EPSILON
    return {stem: (e + EPSILON / len(energies)) / total for stem, e in energies.items()}


def separate_song(waveform: Any, models: Sequence[GraphNets]) -> dict[str, Any]:
    """Separates a whole song.

    Args:
        waveform: float32 [samples, 2], full scale at 1, at the models' rate; any length.
        models: nets of all stems.

    Returns:
        float32 [samples, 2] by stem.
    """
    interface = models[0].interface
    framing, frames = interface.framing, interface.frames
    length, step = framing.length_samples, framing.step_samples
    samples = tf.shape(waveform)[0]
    advance = frames * step
    segments = -(-framing.cover(samples) // frames)
    span = framing.span(frames)
    missing = (segments - 1) * advance + span - length - samples
    padded = tf.pad(waveform, [(length, missing), (0, 0)])
    stems = [stem for model in models for stem in model.interface.stems]

    def one(number: Any) -> Any:
        part = padded[number * advance : number * advance + span]
        found = separate_segment(tf.ensure_shape(part, [span, 2]), models, frames=frames)
        return tf.stack([found[stem] for stem in stems])

    kind = tf.TensorSpec([len(stems), span, 2], tf.float32)
    parts = tf.map_fn(one, tf.range(segments), fn_output_signature=kind, parallel_iterations=1)
    # The end of each segment overlaps the start of the next one.
    parts = tf.transpose(parts, [1, 0, 2, 3])
    overlap = span - advance
    heads, tails = parts[:, :, :advance], parts[:, :, advance:]
    tails = tf.pad(tails[:, :-1], [(0, 0), (1, 0), (0, advance - overlap), (0, 0)])
    whole = tf.reshape(heads + tails, [len(stems), -1, 2])
    end = tf.concat([whole, parts[:, -1, advance:]], axis=1)[:, length : length + samples]
    return dict(zip(stems, tf.unstack(end), strict=True))

"""The TensorFlow twin of features.signal.stft, made of operations that TFLite has too.

Spectra are pairs of real tensors, [frames, channels, bins], so that nothing but the FFT itself
is complex. `waveforms_of` is for training alone, and free of both.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from stemforge.features.signal.framing import Framing
from stemforge.features.signal.stft import hann


def stft(waveform: Any, framing: Framing) -> tuple[Any, Any]:
    """STFT with a periodic Hann window; see features.signal.stft.stft.

    Args:
        waveform: float32 [samples, channels]; as many samples as whole frames span.
        framing: window length and hop, which divides it.

    Returns:
        Real and imaginary part, float32 [frames, channels, length / 2 + 1] each.
    """
    overlap = framing.length_samples // framing.step_samples
    channels = _size(waveform, 1)
    pieces = tf.reshape(waveform, [-1, framing.step_samples, channels])
    frames = tf.shape(pieces)[0] - (overlap - 1)
    if pieces.shape[0] is not None:
        frames = pieces.shape[0] - (overlap - 1)
    framed = tf.concat([pieces[k : k + frames] for k in range(overlap)], axis=1)
    framed = tf.transpose(framed, [0, 2, 1]) * hann(framing.length_samples)
    spectrum = tf.signal.rfft(framed)
    return tf.math.real(spectrum), tf.math.imag(spectrum)


def inverse_stft(real: Any, imaginary: Any, framing: Framing) -> Any:
    """Inverse of `stft` by windowed overlap-add; see features.signal.stft.inverse_stft.

    TFLite has no inverse FFT. With a = Re X continued evenly and b = Im X continued oddly to all N
    bins, R = FFT(a + b) / N has Re R[n] = sum a cos / N and Im R[n] = -sum b sin / N, so that

        x[n] = Re R[n] + Im R[n]        x[N - n] = Re R[n] - Im R[n]

    Args:
        real: float32 [frames, channels, bins]; bins above them are zero.
        imaginary: of the same shape.
        framing: window length and hop, which divides it three times at least.

    Returns:
        float32 [(frames - 1) * hop + length, channels].
    """
    length = framing.length_samples
    missing = [(0, 0), (0, 0), (0, framing.bins - real.shape[2])]
    real, imaginary = tf.pad(real, missing), tf.pad(imaginary, missing)
    folded = tf.concat([real + imaginary, tf.reverse((real - imaginary)[..., 1:-1], [2])], axis=2)
    spectrum = tf.signal.rfft(folded)
    even, odd = tf.math.real(spectrum), tf.math.imag(spectrum)
    framed = tf.concat([even + odd, tf.reverse((even - odd)[..., 1:-1], [2])], axis=2)
    return _overlapped(framed, _synthesis_window(framing) / length, framing)


def spectra_of(waveforms: Any, framing: Framing, *, bins: int) -> tuple[Any, Any]:
    """STFT of several waveforms of one length at once.

    Args:
        waveforms: float32 [windows, samples, channels]; as many samples as whole frames span. A
            graph may leave the number of windows open.
        framing: window length and hop, which divides it.
        bins: number of bins kept, from 0 Hz.

    Returns:
        Real and imaginary part, float32 [windows, frames, bins, channels] each.
    """
    windows, (samples, channels) = _size(waveforms, 0), waveforms.shape[1:]
    side_by_side = tf.reshape(tf.transpose(waveforms, [1, 0, 2]), [samples, windows * channels])

    def apart(part: Any) -> Any:
        kept = part[..., :bins]
        kept = tf.reshape(kept, [framing.count(samples), windows, channels, bins])
        return tf.transpose(kept, [1, 0, 3, 2])

    real, imaginary = stft(side_by_side, framing)
    return apart(real), apart(imaginary)


def waveforms_of(real: Any, imaginary: Any, framing: Framing) -> Any:
    """Inverse STFT of several spectra at once, as features.signal.stft.inverse_stft does it.

    For training: by the inverse FFT, which TFLite has not, and with its adjoint as gradient, which
    is an STFT. (The gradient that TensorFlow derives takes several times as long.)

    Args:
        real: float32 [windows, frames, bins, channels]; bins above them are zero.
        imaginary: of the same shape; it does not count at 0 Hz and at half the rate.
        framing: window length and hop, which divides it three times at least.

    Returns:
        float32 [windows, (frames - 1) * hop + length, channels].
    """
    windows, (frames, bins, channels) = _size(real, 0), real.shape[1:]

    def inverse(real: Any, imaginary: Any) -> tuple[Any, Callable[[Any], tuple[Any, Any]]]:
        spectra = tf.transpose(tf.complex(real, imaginary), [1, 0, 3, 2])
        spectra = tf.reshape(spectra, [frames, windows * channels, bins])
        spectra = tf.pad(spectra, [(0, 0), (0, 0), (0, framing.bins - bins)])
        found = _overlapped(tf.signal.irfft(spectra), _synthesis_window(framing), framing)
        # Frames are known where windows are not: the graph would lose the samples' number.
        found = tf.reshape(found, [framing.span(frames), windows, channels])

        def adjoint(upstream: Any) -> tuple[Any, Any]:
            # A real signal's bins between 0 Hz and half the rate stand for two each.
            counts = np.full((bins, 1), 2.0, np.float32)
            counts[0], counts[framing.bins - 1 :] = 1.0, 1.0
            real, imaginary = spectra_of(upstream, framing, bins=bins)
            scale = counts * (_scale(framing) / framing.length_samples)
            return real * scale, imaginary * scale

        return tf.transpose(found, [1, 0, 2]), adjoint

    return tf.custom_gradient(inverse)(real, imaginary)


def _overlapped(framed: Any, window: np.ndarray, framing: Framing) -> Any:
    """Windowed overlap-add of frames, [frames, channels, length], to [samples, channels]."""
    step, channels = framing.step_samples, _size(framed, 1)
    overlap = framing.length_samples // step
    pieces = tf.reshape(framed * window, [-1, channels, overlap, step])
    out = tf.add_n(
        [tf.pad(pieces[:, :, k], [(k, overlap - 1 - k), (0, 0), (0, 0)]) for k in range(overlap)]
    )
    return tf.reshape(tf.transpose(out, [0, 2, 1]), [-1, channels])


def _synthesis_window(framing: Framing) -> np.ndarray:
    """Hann's, times what makes the sum of the overlapping squared windows 1."""
    return hann(framing.length_samples) * _scale(framing)


def _scale(framing: Framing) -> float:
    return 8.0 * framing.step_samples / (3.0 * framing.length_samples)


def _size(tensor: Any, axis: int) -> Any:
    """The length of an axis: an int where the graph knows it, else a tensor."""
    known = tensor.shape[axis]
    return tf.shape(tensor)[axis] if known is None else known

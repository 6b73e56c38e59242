"""The TensorFlow twin of features.signal.stft, made of operations that TFLite has too.

Spectra are pairs of real tensors, [frames, channels, bins], so that nothing but the FFT itself
is complex.
"""

from typing import Any

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
    channels = waveform.shape[1]
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
    length, step = framing.length_samples, framing.step_samples
    overlap = length // step
    missing = [(0, 0), (0, 0), (0, framing.bins - real.shape[2])]
    real, imaginary = tf.pad(real, missing), tf.pad(imaginary, missing)
    folded = tf.concat([real + imaginary, tf.reverse((real - imaginary)[..., 1:-1], [2])], axis=2)
    spectrum = tf.signal.rfft(folded)
    even, odd = tf.math.real(spectrum), tf.math.imag(spectrum)
    framed = tf.concat([even + odd, tf.reverse((even - odd)[..., 1:-1], [2])], axis=2)
    framed *= hann(length) * (8.0 / (3.0 * overlap * length))
    channels = real.shape[1]
    pieces = tf.reshape(framed, [-1, channels, overlap, step])
    out = tf.add_n(
        [tf.pad(pieces[:, :, k], [(k, overlap - 1 - k), (0, 0), (0, 0)]) for k in range(overlap)]
    )
    return tf.reshape(tf.transpose(out, [0, 2, 1]), [-1, channels])

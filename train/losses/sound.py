"""Losses of sound: what is heard of an estimate with the mixture's phases, and of the true stem.

Targets are limited to the bins that nets estimate, by an STFT and its inverse: what lies above
them is out of a net's reach. Losses of waveforms compare them where as many frames overlap as
anywhere; at their ends they fade. Levels are relative to full scale 1.
"""

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from stemforge.features.signal.framing import Framing
from stemforge.features.signal.stft_tf import spectra_of, waveforms_of
from stemforge.train.batch import Batch
from stemforge.train.config import FFT_LENGTHS
from stemforge.train.losses.protocol import Estimates, Loss

SILENT_RMS = 1e-3  # -60 dB, as features.validity.silence_db: below it there is nothing to separate
LEAST_RMS = 1e-4  # -80 dB: multi_resolution_stft hears nothing below it
LARGEST_RATIO = 1e4  # of energies, 40 dB: si_sdr ends before it, and before -40 dB
HANN_ENERGY = 3.0 / 8.0  # mean of the squared window
INSIDE = (1, 2)  # all axes of a window's waveform


def of_waveforms(term: Callable[[Any, Any], Any]) -> Loss:
    """A loss that compares the waveforms of a stem's estimate and of its target."""

    def terms(batch: Batch, estimates: Estimates) -> dict[str, Any]:
        assert batch.waveforms is not None
        return {
            stem: term(*heard(estimates[stem], waveform, batch))
            for stem, waveform in batch.waveforms.items()
        }

    return Loss(terms, needs_phases=True, needs_waveforms=True)


def heard(estimate: Any, waveform: Any, batch: Batch) -> tuple[Any, Any]:
    """Waveforms of an estimate and of its target, of the same bins and samples.

    Args:
        estimate: float32 [windows, frames, bins, channels], magnitudes.
        waveform: true, float32 [windows, samples, channels].
        batch: with the mixture's phases and the framing.

    Returns:
        float32 [windows, framing.inside(frames), channels] each.
    """
    assert batch.framing is not None
    framing = batch.framing
    turned = estimate * tf.cos(batch.phases), estimate * tf.sin(batch.phases)
    target = spectra_of(waveform, framing, bins=estimate.shape[2])
    end = framing.length_samples - framing.step_samples
    sounds = (waveforms_of(*spectra, framing) for spectra in (turned, target))
    found, true = (sound[:, end : sound.shape[1] - end] for sound in sounds)
    return found, true


def si_sdr(estimate: Any, target: Any) -> Any:
    """Negated scale-invariant SDR of each window, and the mean over windows.

    -10 log10 (|a s|^2 / |a s - e|^2) with a = <e, s> / |s|^2, one gain for all channels. Le Roux,
    Wisdom, Erdogan, Hershey: SDR - half-baked or well done? (ICASSP 2019). Both energies have
    (|e|^2 + |s|^2) / r added, with r = LARGEST_RATIO: a silent estimate gives 0 dB, as its SDR is.
    A window whose target has an rms below SILENT_RMS gives 0 too. It does not tell a net how loud
    a stem is: add l1.

    Args:
        estimate: e, float32 [windows, samples, channels].
        target: s, of the same shape.

    Returns:
        float32 scalar, in dB, between -40 and 40. The norm of a window's gradient is at most
        8.7 (sqrt(r) + 1) / |s|.
    """
    values = float(estimate.shape[1] * estimate.shape[2])
    energy = tf.reduce_sum(tf.square(target), INSIDE)
    silent = values * SILENT_RMS**2
    product = tf.reduce_sum(estimate * target, INSIDE)
    gain = product / tf.maximum(energy, silent)
    error = tf.reduce_sum(tf.square(gain[:, None, None] * target - estimate), INSIDE)
    least = (tf.reduce_sum(tf.square(estimate), INSIDE) + energy) / LARGEST_RATIO
    # A silent window's value is not used, but its gradient must not be NaN.
    least = tf.maximum(least, silent / LARGEST_RATIO)
    ratio = (gain * product + least) / (error + least)
    decibels = -10.0 / math.log(10.0) * tf.math.log(ratio)
    return tf.reduce_mean(tf.where(energy < silent, tf.zeros_like(decibels), decibels))


def multi_resolution_stft(estimate: Any, target: Any) -> Any:
    """Spectral convergence plus log magnitude distance, the mean over three STFTs.

    Of each window |S - E|_F / |S|_F + mean |ln S - ln E|, with S and E the magnitudes of target
    and estimate. Yamamoto, Song, Kim: Parallel WaveGAN (ICASSP 2020), whose FFT sizes these are;
    windows are Hann's of the whole size, at a quarter of it as hop. Magnitudes are
    sqrt(re^2 + im^2 + f^2) with f the one of a sine at LEAST_RMS, and |S|_F is at least that of
    noise at SILENT_RMS: a silent target asks for silence.

    Args:
        estimate: float32 [windows, samples, channels]; 2048 samples at least.
        target: of the same shape.

    Returns:
        float32 scalar without a unit; the second part is in nepers.
    """
    framings = [Framing(length, length // 4) for length in FFT_LENGTHS]
    return tf.add_n([_one_resolution(estimate, target, f) for f in framings]) / len(framings)


def _one_resolution(estimate: Any, target: Any, framing: Framing) -> Any:
    """Spectral convergence plus log magnitude distance of one STFT."""
    length = framing.length_samples
    samples = framing.span(framing.count(estimate.shape[1]))
    floor = LEAST_RMS * length / 4.0 * math.sqrt(2.0)

    def magnitudes(sound: Any) -> Any:
        real, imaginary = spectra_of(sound[:, :samples], framing, bins=framing.bins)
        return tf.sqrt(tf.square(real) + tf.square(imaginary) + floor**2)

    found, true = magnitudes(estimate), magnitudes(target)
    inside = (1, 2, 3)
    error = tf.reduce_mean(tf.square(true - found), inside)
    energy = tf.reduce_mean(tf.square(true), inside)
    silent = HANN_ENERGY * length * SILENT_RMS**2
    # The floor again: a root of 0 would have no gradient.
    convergence = tf.sqrt((error + (1e-3 * floor) ** 2) / tf.maximum(energy, silent))
    logarithmic = tf.reduce_mean(tf.abs(tf.math.log(true / found)), inside)
    return tf.reduce_mean(convergence + logarithmic)


def snr(batch: Batch, estimates: Estimates) -> dict[str, Any]:
    """Negated signal to noise ratio of each window's spectrogram, and the mean over windows.

    -10 log10 ((|S|^2 + f) / (|E - S|^2 + f + |S|^2 / r)) with E the estimate with the mixture's
    phases and S the stem, complex, of the bins that nets estimate; f is the energy of noise at
    SILENT_RMS, and r = LARGEST_RATIO. It needs no inverse STFT: what is heard is the projection of
    the estimate on the spectrograms of sounds, so its error is at most this one. The form with a
    threshold is that of Wisdom, Tzinis, Erdogan, Weiss, Wilson, Hershey: Unsupervised sound
    separation using mixture invariant training (NeurIPS 2020). A silent target asks for silence,
    down to f.

    Args:
        batch: with the mixture's phases, the stems' waveforms and the framing.
        estimates: magnitudes, by stem.

    Returns:
        float32 scalars by stem, in dB: at least -40, and 0 for a silent estimate.
    """
    assert batch.waveforms is not None
    assert batch.framing is not None
    inside, terms = (1, 2, 3), {}
    for stem, waveform in batch.waveforms.items():
        estimate = estimates[stem]
        real, imaginary = spectra_of(waveform, batch.framing, bins=estimate.shape[2])
        error = tf.square(estimate * tf.cos(batch.phases) - real)
        error += tf.square(estimate * tf.sin(batch.phases) - imaginary)
        energy = tf.reduce_sum(tf.square(real) + tf.square(imaginary), inside)
        values = float(estimate.shape[1] * estimate.shape[2] * estimate.shape[3])
        silent = values * HANN_ENERGY * batch.framing.length_samples * SILENT_RMS**2
        noise = tf.reduce_sum(error, inside) + silent + energy / LARGEST_RATIO
        ratio = tf.math.log((energy + silent) / noise)
        terms[stem] = tf.reduce_mean(-10.0 / math.log(10.0) * ratio)
    return terms


def phase_sensitive(batch: Batch, estimates: Estimates) -> dict[str, Any]:
    """Mean absolute error to the part of each stem that points as the mixture does.

    mean |e - t| with t = |Y| cos(theta_Y - theta_X), clipped to [0, |X|]: the best magnitudes for
    the mixture's phases. Erdogan, Hershey, Watanabe, Le Roux: Phase-sensitive and
    recognition-boosted speech separation using deep recurrent neural networks (ICASSP 2015), with
    l1 for their square. A silent target asks for silence.

    Args:
        batch: with the mixture's phases, the stems' waveforms and the framing.
        estimates: magnitudes, by stem.

    Returns:
        float32 scalars by stem, in units of magnitude.
    """
    assert batch.waveforms is not None
    assert batch.framing is not None
    terms = {}
    for stem, waveform in batch.waveforms.items():
        bins = estimates[stem].shape[2]
        real, imaginary = spectra_of(waveform, batch.framing, bins=bins)
        along = real * tf.cos(batch.phases) + imaginary * tf.sin(batch.phases)
        target = tf.minimum(tf.maximum(along, 0.0), batch.mixture)
        terms[stem] = tf.reduce_mean(tf.abs(estimates[stem] - target))
    return terms

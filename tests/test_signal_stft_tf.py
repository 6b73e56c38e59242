import numpy as np
import pytest
import tensorflow as tf

from stemforge.features.signal import stft as numpy_stft
from stemforge.features.signal.framing import Framing
from stemforge.features.signal.stft_tf import inverse_stft, spectra_of, stft, waveforms_of
from stemforge.pipelines.running import pictures


@pytest.mark.parametrize(("length", "step"), [(4096, 1024), (64, 16), (48, 16)])
def test_stft_is_tf_signals(length: int, step: int, random: np.random.Generator) -> None:
    framing = Framing(length, step)
    waveform = random.normal(0, 0.3, (framing.span(9), 2)).astype(np.float32)
    real, imaginary = stft(waveform, framing)
    expected = tf.signal.stft(waveform.T, length, step, fft_length=length)
    expected = np.moveaxis(expected.numpy(), 0, 1)
    np.testing.assert_allclose(real.numpy(), expected.real, atol=2e-4)
    np.testing.assert_allclose(imaginary.numpy(), expected.imag, atol=2e-4)


@pytest.mark.parametrize(("length", "step"), [(4096, 1024), (64, 16), (48, 16)])
def test_inverse_is_tf_signals(length: int, step: int, random: np.random.Generator) -> None:
    framing = Framing(length, step)
    shape = (7, 2, framing.bins - 5)
    real, imaginary = (random.normal(0, 1.0, shape).astype(np.float32) for _ in range(2))
    imaginary[..., 0] = 0.0  # as in the spectrum of anything real
    found = inverse_stft(tf.constant(real), tf.constant(imaginary), framing).numpy()
    spectrum = np.pad(real + 1j * imaginary, [(0, 0), (0, 0), (0, 5)]).astype(np.complex64)
    # Spleeter's: the analysis window again, times 2/3 at a hop of a quarter.
    window = tf.signal.hann_window(length) * (8.0 * step / (3.0 * length))
    expected = tf.signal.inverse_stft(
        np.moveaxis(spectrum, 1, 0),
        length,
        step,
        fft_length=length,
        window_fn=lambda size, dtype: window,
    )
    np.testing.assert_allclose(found, expected.numpy().T, atol=1e-5)


def test_round_trip(random: np.random.Generator) -> None:
    framing = Framing(64, 16)
    waveform = random.normal(0, 0.3, (framing.span(20), 2)).astype(np.float32)
    found = inverse_stft(*stft(waveform, framing), framing).numpy()
    inside = slice(64, -64)
    np.testing.assert_allclose(found[inside], waveform[inside], atol=1e-6)


@pytest.mark.parametrize("bins", [20, 33])
def test_several_at_once_are_numpys_one_by_one(bins: int, random: np.random.Generator) -> None:
    framing = Framing(64, 16)
    waveforms = random.normal(0, 0.3, (3, framing.span(9), 2)).astype(np.float32)
    # A graph that does not know how many windows there are, as for a smaller last batch.
    sizes = tf.TensorSpec([None, framing.span(9), 2], tf.float32)
    analyse = tf.function(lambda x: spectra_of(x, framing, bins=bins), input_signature=[sizes])
    real, imaginary = analyse(waveforms)
    expected = np.stack([numpy_stft.stft(one, framing)[:, :bins] for one in waveforms])
    np.testing.assert_allclose(real, expected.real, atol=1e-5)
    np.testing.assert_allclose(imaginary, expected.imag, atol=1e-5)
    magnitudes = random.uniform(0, 2, (3, 9, bins, 2)).astype(np.float32)
    phases = random.uniform(-3, 3, (3, 9, bins, 2)).astype(np.float32)  # at 0 Hz too
    sizes = tf.TensorSpec([None, 9, bins, 2], tf.float32)
    combine = tf.function(lambda a, b: waveforms_of(a, b, framing), input_signature=[sizes, sizes])
    found = combine(magnitudes * np.cos(phases), magnitudes * np.sin(phases))
    assert combine.get_concrete_function().output_shapes.as_list() == [None, framing.span(9), 2]
    parts = zip(magnitudes, phases, strict=True)
    heard = np.stack([pictures.audible(m, p, framing=framing) for m, p in parts])
    np.testing.assert_allclose(found, heard, atol=1e-5)


@pytest.mark.parametrize("bins", [20, 33])
def test_the_gradient_of_an_inverse_is_its_adjoint(bins: int, random: np.random.Generator) -> None:
    framing = Framing(64, 16)
    waveforms = random.normal(0, 1, (3, framing.span(9), 2)).astype(np.float32)
    here = [tf.constant(random.normal(0, 1, (3, 9, bins, 2)), tf.float32) for _ in range(2)]
    with tf.GradientTape() as tape:
        tape.watch(here)
        value = tf.reduce_sum(waveforms * waveforms_of(here[0], here[1], framing))
    gradients = tape.gradient(value, here)
    # The map is linear: along any direction its derivative is the map itself.
    real, imaginary = (random.normal(0, 1, (3, 9, bins, 2)).astype(np.float32) for _ in range(2))
    spectra = np.pad(real + 1j * imaginary, [(0, 0), (0, 0), (0, framing.bins - bins), (0, 0)])
    change = np.stack([numpy_stft.inverse_stft(one, framing) for one in spectra])
    found = np.sum(gradients[0] * real) + np.sum(gradients[1] * imaginary)
    np.testing.assert_allclose(found, np.sum(waveforms * change), rtol=1e-4)

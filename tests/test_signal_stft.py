import numpy as np
import pytest
import tensorflow as tf

from stemforge.features.signal.framing import Framing
from stemforge.features.signal.stft import hann, inverse_stft, stft

SPLEETER = Framing(4096, 1024)


def test_equals_tf_signal_on_noise(random: np.random.Generator) -> None:
    waveform = random.uniform(-1, 1, (20000, 2)).astype(np.float32)
    theirs = tf.signal.stft(waveform.T, 4096, 1024, pad_end=False).numpy()
    ours = stft(waveform, SPLEETER)
    assert ours.dtype == np.complex64
    assert ours.shape == (16, 2049, 2)
    np.testing.assert_allclose(ours, np.moveaxis(theirs, 0, -1), atol=1e-4)


def test_equals_a_direct_dft(random: np.random.Generator) -> None:
    framing = Framing(64, 16)
    waveform = random.normal(size=(100, 1)).astype(np.float32)
    n = np.arange(64)
    kernel = np.exp(-2j * np.pi * np.outer(np.arange(33), n) / 64)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * n / 64)
    direct = [kernel @ (window * waveform[16 * f : 16 * f + 64, 0]) for f in range(3)]
    np.testing.assert_allclose(stft(waveform, framing)[:, :, 0], direct, atol=1e-5)


def test_full_scale_sine_on_a_bin_peaks_at_a_quarter_of_the_length() -> None:
    waveform = np.sin(2 * np.pi * 100 * np.arange(4096) / 4096).astype(np.float32)[:, None]
    magnitude = np.abs(stft(waveform, SPLEETER))[0, :, 0]
    assert magnitude.argmax() == 100
    assert magnitude[100] == pytest.approx(1024.0, rel=1e-5)


def test_window_is_tensorflows_periodic_hann() -> None:
    np.testing.assert_allclose(hann(4096), tf.signal.hann_window(4096).numpy(), atol=1e-6)


@pytest.mark.parametrize(("length", "step"), [(4096, 1024), (1024, 256), (768, 256), (512, 64)])
@pytest.mark.parametrize("channels", [1, 2])
def test_inverse_gives_the_signal_back_where_frames_overlap_fully(
    random: np.random.Generator, length: int, step: int, channels: int
) -> None:
    framing = Framing(length, step)
    waveform = random.uniform(-1, 1, (length + 20 * step, channels)).astype(np.float32)
    back = inverse_stft(stft(waveform, framing), framing)
    assert back.shape == waveform.shape
    inside = slice(length, len(waveform) - length)
    np.testing.assert_allclose(back[inside], waveform[inside], atol=2e-6)


def test_inverse_of_parts_adds_up_to_the_inverse_of_the_whole(random: np.random.Generator) -> None:
    framing = Framing(64, 16)
    spectrum = stft(random.normal(size=(500, 2)).astype(np.float32), framing)
    whole = inverse_stft(spectrum, framing)
    parts = np.zeros_like(whole)
    for start in range(0, len(spectrum), 5):
        part = inverse_stft(spectrum[start : start + 5], framing)
        parts[start * 16 : start * 16 + len(part)] += part
    np.testing.assert_allclose(parts, whole, atol=1e-6)


@pytest.mark.parametrize(
    ("samples", "frames"), [(0, 0), (4095, 0), (4096, 1), (5119, 1), (5120, 2)]
)
def test_frames_are_whole(samples: int, frames: int) -> None:
    assert SPLEETER.count(samples) == frames
    assert len(stft(np.zeros((samples, 2), np.float32), SPLEETER)) == frames


def test_wrong_shapes_and_hops_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[samples, channels\]"):
        stft(np.zeros(5000, np.float32), SPLEETER)
    with pytest.raises(ValueError, match="three times"):
        inverse_stft(np.zeros((1, 33, 1), np.complex64), Framing(64, 32))

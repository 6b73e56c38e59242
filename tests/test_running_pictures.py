import numpy as np
import pytest

from stemforge.features.signal.framing import Framing
from stemforge.features.signal.stft import stft
from stemforge.pipelines.running import pictures


def test_a_tone_is_a_bright_line_at_its_height() -> None:
    magnitudes = np.zeros((10, 64, 2), np.float32)
    magnitudes[3:, 48, 1] = 8.0
    picture = pictures.spectrogram(magnitudes, reference=8.0, rows=16)
    assert picture.shape == (16, 10, 3)
    brightness = picture.sum(axis=2)
    row = 15 - 48 // 4  # low frequencies at the bottom
    assert (brightness[row, 3:] == brightness.max()).all()
    assert (np.delete(brightness, row, axis=0) == brightness.min()).all()
    assert brightness[row, 0] == brightness.min()


def test_half_the_range_is_half_the_way() -> None:
    levels = 10.0 ** (-np.array([0.0, 20.0, 40.0, 60.0, 80.0, 200.0]) / 20.0)
    magnitudes = np.broadcast_to(levels[:, None, None], (6, 4, 2)).astype(np.float32)
    row = pictures.spectrogram(magnitudes, reference=1.0, rows=4)[0].sum(axis=1).astype(int)
    assert (np.diff(row) <= 0).all()
    assert row[4] == row[5] < row[2] < row[0]


def test_a_waveform_reaches_as_high_as_it_is_loud() -> None:
    samples = np.zeros((1000, 2), np.float32)
    samples[::2, 0], samples[1::2, 0] = 0.5, -0.5
    samples[500:] = 0.0
    picture = pictures.waveform(samples, rows=101, columns=10)[..., 0] > 0
    np.testing.assert_array_equal(picture[:, :5].sum(axis=0), 51)  # half of the rows
    np.testing.assert_array_equal(picture[:, 5:].sum(axis=0), 1)


def test_stacked_pictures_keep_their_width() -> None:
    parts = [np.zeros((4, 7, 3), np.uint8), np.ones((5, 7, 3), np.uint8)]
    assert pictures.stack(parts).shape == (11, 7, 3)


def test_magnitudes_with_their_own_phase_are_the_waveform(random: np.random.Generator) -> None:
    framing = Framing(4096, 1024)
    t = np.arange(framing.span(20)) / 44100
    tone = np.stack([np.sin(2 * np.pi * 440 * t), np.cos(2 * np.pi * 600 * t)], 1) / 2
    spectrum = stft(tone.astype(np.float32), framing)[:, :512]
    found = pictures.audible(np.abs(spectrum), np.angle(spectrum), framing=framing)
    middle = slice(4096, -4096)
    np.testing.assert_allclose(found[middle], tone[middle], atol=2e-3)
    assert pytest.approx(0.5, abs=0.01) == np.abs(found[middle]).max()

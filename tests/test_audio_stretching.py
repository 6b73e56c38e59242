"""Pitch and tempo of tones and noise, whose frequency, length and level are known."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from stemforge.features.audio.stretching import change_pitch_and_tempo

RATE_HZ, SAMPLES = 44100, 88200


def level_db(waveform: NDArray[np.float32]) -> float:
    return float(10 * np.log10(np.mean(np.square(waveform, dtype=np.float64))))


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A stereo tone of 440 Hz, left louder; mono noise in beats; and their sum first."""
    root, random = tmp_path_factory.mktemp("tones"), np.random.default_rng(3)
    time_s = np.arange(SAMPLES) / RATE_HZ
    tone = np.sin(2 * np.pi * 440 * time_s)[:, None] * (0.3, 0.15)
    noise = 0.1 * random.standard_normal((SAMPLES, 1)) * (np.sin(4 * np.pi * time_s) > 0)[:, None]
    for name, waveform in (("sum", tone + noise), ("tone", tone), ("noise", noise)):
        soundfile.write(root / f"{name}.wav", waveform, RATE_HZ, subtype="FLOAT")
    return [root / f"{name}.wav" for name in ("sum", "tone", "noise")]


@pytest.mark.parametrize(("semitones", "tempo"), [(2.0, 1.12), (-1.7, 0.88), (0.0, 1.0)])
def test_a_tone_by_hand(paths: list[Path], tmp_path: Path, semitones: float, tempo: float) -> None:
    found = change_pitch_and_tempo(
        paths, tmp_path / "out", channels=5, semitones=semitones, tempo=tempo
    )
    assert found.dtype == np.float32
    assert found.shape[1] == 5
    assert len(found) == pytest.approx(SAMPLES / tempo, rel=0.01)
    mixed, tone, noise = found[:, :2], found[:, 2:4], found[:, 4:]
    middle = np.array(tone[len(tone) // 4 : 3 * len(tone) // 4, 0], np.float64)
    points = 2**20  # the spectrum is read every 0.04 Hz
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)), points))
    peak_hz = int(np.argmax(spectrum)) * RATE_HZ / points
    assert peak_hz == pytest.approx(440 * 2 ** (semitones / 12), rel=0.005)
    for channel, amplitude in enumerate((0.3, 0.15)):
        assert level_db(tone[:, channel]) == pytest.approx(
            20 * np.log10(amplitude / 2**0.5), abs=0.5
        )
    # All are joined at the same places, so the changed sum is the sum of what is changed.
    assert level_db(mixed - tone - noise) < level_db(mixed) - 90


def test_a_file_shorter_than_a_piece_is_no_error(tmp_path: Path) -> None:
    places = [tmp_path / f"{number}.wav" for number in range(3)]
    for place in places:
        soundfile.write(place, np.zeros((9, 2)), RATE_HZ, subtype="PCM_16")
    found = change_pitch_and_tempo(places, tmp_path / "out", channels=6, semitones=1.0, tempo=1.1)
    assert found.shape[1] == 6
    assert len(found) < 9

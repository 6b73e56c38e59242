import dataclasses

import numpy as np
import pytest

from stemforge.features.corpus import instruments, starter
from stemforge.features.corpus.instruments import Patch, Voice
from stemforge.features.corpus.sources import MIXTURE
from tests.conftest import RATE_HZ


def song(seed: int, *, palette: starter.Palette = starter.TRAIN) -> dict[str, np.ndarray]:
    return starter.generate_song(np.random.default_rng(seed), palette, duration_s=5.0)


def test_a_song_is_the_sum_of_its_stems_and_the_same_for_a_seed() -> None:
    first, again, other = song(1), song(1), song(2)
    assert sorted(first) == ["bass", "drums", "mixture", "other", "vocals"]
    for name, waveform in first.items():
        assert waveform.shape == (5 * RATE_HZ, 2)
        assert waveform.dtype == np.float32
        np.testing.assert_array_equal(waveform, again[name])
        assert not np.array_equal(waveform, other[name])
    total = sum(first[stem] for stem in starter.STREAMS)
    np.testing.assert_allclose(total, first[MIXTURE], atol=1e-6)
    assert np.abs(first[MIXTURE]).max() == pytest.approx(starter.PEAK, abs=1e-6)


def test_held_out_songs_use_nothing_that_training_hears() -> None:
    for field in dataclasses.fields(starter.Palette):
        heard = set(getattr(starter.TRAIN, field.name))
        assert not heard & set(getattr(starter.HELD_OUT, field.name)), field.name


@pytest.mark.parametrize("seed", range(4))
def test_stems_lie_where_their_instruments_do(seed: int) -> None:
    stems = song(seed, palette=starter.HELD_OUT)

    def share_above(stem: str, hz: float) -> float:
        power = np.abs(np.fft.rfft(stems[stem].sum(axis=1))) ** 2
        return float(power[round(hz * 5) :].sum() / power.sum())  # bins of 1 / 5 Hz

    assert share_above("bass", 600) < 0.1
    assert share_above("drums", 3000) > share_above("bass", 3000)
    assert share_above("vocals", 200) > 0.5


def test_notes_have_their_pitch() -> None:
    assert instruments.midi_hz(69) == 440.0
    assert instruments.midi_hz(57) == pytest.approx(220.0)
    signal = instruments.tone(Patch(1.0, False, 0.01, 1.0, 0, 2000), 330.0, 1.0)
    assert np.abs(np.fft.rfft(signal)).argmax() == pytest.approx(330, abs=1)


def test_the_voice_sings_its_note(random: np.random.Generator) -> None:
    voice = Voice(1.0, 5.5, 20, 0.02, 0.9)
    signal = instruments.sing(voice, 57, ["a", "i"], 1.0, random)[8820:39690]
    lags = np.arange(100, 400)
    correlation = [np.dot(signal[:-lag], signal[lag:]) for lag in lags]
    found_hz = RATE_HZ / lags[int(np.argmax(correlation))]
    assert found_hz == pytest.approx(220.0, rel=0.02)

import museval.metrics
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemforge.eval.scoring.track_metrics import predicted_energy_at_silence, si_sdr, utterance_sdr

SEEDS = st.integers(0, 2**32 - 1)


def pair(seed: int, *, channels: int = 2) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    reference = random.normal(0, 0.1, (500, channels)).astype(np.float32)
    return reference, (reference + random.normal(0, 0.05, reference.shape)).astype(np.float32)


def test_utterance_sdr_by_hand() -> None:
    reference = np.array([[3.0, 0.0], [0.0, 1.0]], np.float32)
    estimate = np.array([[3.0, 0.0], [0.0, 0.0]], np.float32)
    assert utterance_sdr(reference, estimate) == pytest.approx(10.0, abs=1e-5)  # 10 / 1
    # Perfect: only the challenge's constant is left, 10 / 1e-7.
    assert utterance_sdr(reference, reference) == pytest.approx(80.0, abs=1e-5)
    assert utterance_sdr(reference, np.zeros_like(reference)) == pytest.approx(0.0, abs=1e-6)
    assert np.isnan(utterance_sdr(np.zeros_like(reference), estimate))


@given(SEEDS, st.floats(0.01, 100.0))
def test_si_sdr_does_not_change_with_the_scale_of_either(seed: int, gain: float) -> None:
    reference, estimate = (signal.astype(np.float64) for signal in pair(seed))
    expected = si_sdr(reference, estimate)
    assert si_sdr(reference, gain * estimate) == pytest.approx(expected, abs=1e-8)
    assert si_sdr(gain * reference, estimate) == pytest.approx(expected, abs=1e-8)


@given(SEEDS)
def test_si_sdr_is_bss_eval_with_a_filter_of_one_tap(seed: int) -> None:
    # One source in mono: the projection is then the scaled reference, and SAR its ratio.
    reference, estimate = pair(seed, channels=1)
    *_, sar, _ = museval.metrics.bss_eval(
        reference[None], estimate[None], window=np.inf, hop=np.inf, filters_len=1
    )
    assert si_sdr(reference, estimate) == pytest.approx(sar[0, 0], abs=1e-6)


def test_si_sdr_of_extremes() -> None:
    reference = np.array([[1.0, 0.0], [0.0, 2.0]])
    orthogonal = np.array([[0.0, 1.0], [1.0, 0.0]])
    # |a s|^2 = 5, |e|^2 = 2: 4 dB.
    assert si_sdr(reference, reference + orthogonal) == pytest.approx(10 * np.log10(2.5))
    assert si_sdr(reference, 0.5 * reference) == np.inf
    assert si_sdr(reference, orthogonal) == -np.inf
    assert np.isnan(si_sdr(np.zeros_like(reference), reference))
    assert np.isnan(si_sdr(reference, np.zeros_like(reference)))


def test_energy_is_measured_where_the_reference_is_silent() -> None:
    reference = np.zeros((40, 2), np.float32)
    reference[10:20] = 0.5
    estimate = np.zeros_like(reference)
    estimate[:10] = 1.0  # 20 values of 1: 13 dB
    estimate[10:20] = 7.0  # the reference sounds: does not count
    frames = [slice(n, n + 10) for n in range(0, 40, 10)]
    found = predicted_energy_at_silence(reference, estimate, frames)
    assert found == pytest.approx((10 * np.log10(20.0) - 120.0 - 120.0) / 3, abs=1e-9)
    assert np.isnan(predicted_energy_at_silence(reference, estimate, [slice(10, 20)]))

"""museval is the oracle."""

from typing import Any

import museval.metrics
import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from stemforge.eval.scoring.bss_eval import bss_eval, correlations, frames

METRICS = ("sdr", "isr", "sir", "sar")


def music(seed: int, sources: int, samples: int, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Coloured noise, and estimates with interference, filtering and artifacts."""
    random = np.random.default_rng(seed)
    white = random.normal(size=(sources, samples + 8, channels))
    references = sum(white[:, lag : lag + samples] / (lag + 1) for lag in range(8))
    references = np.asarray(references) * random.uniform(0.2, 2.0, (sources, 1, channels))
    mixture = references.sum(axis=0)
    estimates = 0.8 * references + 0.1 * mixture + 0.05 * random.normal(size=references.shape)
    estimates[:, 1:] += 0.3 * references[:, :-1]
    return references, estimates


def compare(references: np.ndarray, estimates: np.ndarray, **options: Any) -> None:
    truth = museval.metrics.bss_eval(references, estimates, **options)[:4]
    found = bss_eval(references, estimates, **options)
    for name, expected in zip(METRICS, truth, strict=True):
        np.testing.assert_allclose(getattr(found, name), expected, atol=1e-6, err_msg=name)


@settings(deadline=None, max_examples=15)
@given(
    seed=st.integers(0, 1000),
    sources=st.integers(1, 4),
    channels=st.integers(1, 2),
    samples=st.integers(400, 2500),
    window=st.sampled_from([300, 1000, np.inf]),
    hop=st.sampled_from([150, 333.5, 1000]),
    filters_len=st.sampled_from([1, 16, 40]),
    framewise_filters=st.booleans(),
)
def test_equals_museval(
    seed: int, sources: int, channels: int, samples: int, **options: Any
) -> None:
    compare(*music(seed, sources, samples, channels), **options)


def test_equals_museval_with_its_own_filters() -> None:
    references, estimates = music(0, 2, 30_000, 2)
    compare(references, estimates, window=10_000, hop=10_000)
    single = bss_eval(
        references.astype(np.float32), estimates.astype(np.float32), window=10_000, hop=10_000
    )
    double = bss_eval(references, estimates, window=10_000, hop=10_000)
    np.testing.assert_allclose(single.sdr, double.sdr, atol=1e-4)
    assert not double.undetermined.any()


@pytest.mark.parametrize("which", ["reference", "estimate", "cancelling"])
def test_silent_frames(which: str) -> None:
    references, estimates = music(1, 3, 4000, 2)
    if which == "reference":
        references[1, 1000:2000] = 0
    elif which == "estimate":
        estimates[1, 1000:2000] = 0
    else:  # what museval takes for silence
        references[1, 1000:2000, 1] = -references[1, 1000:2000, 0]
    options: dict[str, Any] = {"window": 1000, "hop": 1000, "filters_len": 16}
    compare(references, estimates, **options)
    museval_policy = bss_eval(references, estimates, **options)
    assert np.isnan(museval_policy.sdr).sum() == 3
    per_source = bss_eval(references, estimates, nan_policy="per_source", **options)
    assert np.argwhere(np.isnan(per_source.sdr)).tolist() == [[1, 1]]
    heard = ~np.isnan(museval_policy.sdr)
    np.testing.assert_array_equal(per_source.sdr[heard], museval_policy.sdr[heard])


def test_a_source_that_is_silent_throughout_is_nan() -> None:
    references, estimates = music(2, 3, 3000, 2)
    options: dict[str, Any] = {"window": 1000, "hop": 1000, "filters_len": 16}
    without = bss_eval(references[[0, 2]], estimates[[0, 2]], **options)
    references[1] = 0
    found = bss_eval(references, estimates, **options)
    assert np.isnan(found.sdr[1]).all()
    np.testing.assert_array_equal(found.sir[[0, 2]], without.sir)
    assert np.isnan(bss_eval(references * 0, estimates, **options).sdr).all()


def test_a_perfect_estimate() -> None:
    references, _ = music(3, 2, 3000, 2)
    found = bss_eval(references, references.copy(), window=1000, hop=1000, filters_len=16)
    assert np.isposinf(found.sdr).all()
    assert min(found.isr.min(), found.sir.min(), found.sar.min()) > 200
    assert found.undetermined.all()  # what is left is rounding


@settings(deadline=None, max_examples=20)
@given(samples=st.integers(1, 60_000), reach=st.integers(0, 40))
def test_correlations_are_scipys(samples: int, reach: int) -> None:
    random = np.random.default_rng(samples)
    left, right = random.normal(size=(2, samples)), random.normal(size=(3, samples))
    found = correlations(list(left), list(right), reach=reach)
    assert found.shape == (2, 5, 2 * reach + 1)
    for p in range(2):
        for q, other in enumerate([*left, *right]):
            full = scipy.signal.correlate(other, left[p])  # lags from -(samples - 1)
            padded = np.pad(full, reach)
            middle = samples - 1 + reach
            expected = padded[middle - reach : middle + reach + 1]
            np.testing.assert_allclose(found[p, q], expected, atol=1e-7)


def test_frames_by_hand() -> None:
    assert frames(10, window=4, hop=3) == [slice(0, 4), slice(3, 7), slice(6, 10)]
    assert frames(10, window=4, hop=4) == [slice(0, 4), slice(4, 8)]
    assert frames(10, window=np.inf, hop=4) == [slice(0, 10)]
    with pytest.raises(ValueError, match="must both be"):
        bss_eval(np.zeros((1, 9, 2)), np.zeros((1, 8, 2)), window=4, hop=4)

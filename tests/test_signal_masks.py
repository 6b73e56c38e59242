import numpy as np
import pytest

from stemforge.features.signal.masks import direct_mask, ratio_masks


def test_ratio_masks_by_hand() -> None:
    estimates = np.array([[3.0, 0.0], [4.0, 0.0]], np.float32)
    masks = ratio_masks(estimates)
    np.testing.assert_allclose(masks[:, 0], [9 / 25, 16 / 25], rtol=1e-6)
    np.testing.assert_allclose(masks[:, 1], [0.5, 0.5], rtol=1e-6)  # silence is shared


def test_an_exponent_of_one_compares_magnitudes() -> None:
    estimates = np.array([[3.0], [4.0]], np.float32)
    np.testing.assert_allclose(ratio_masks(estimates, exponent=1.0), [[3 / 7], [4 / 7]], rtol=1e-6)


def test_ratio_masks_sum_to_one(random: np.random.Generator) -> None:
    estimates = random.exponential(size=(4, 7, 11, 2)).astype(np.float32)
    np.testing.assert_allclose(ratio_masks(estimates).sum(axis=0), 1.0, atol=1e-6)


def test_a_single_stem_has_no_ratio_mask() -> None:
    with pytest.raises(ValueError, match="at least two"):
        ratio_masks(np.ones((1, 3), np.float32))


def test_direct_mask_is_zero_in_silence() -> None:
    mask = direct_mask(np.array([1.0, 0.0], np.float32), np.array([4.0, 0.0], np.float32))
    np.testing.assert_array_equal(mask, [0.25, 0.0])

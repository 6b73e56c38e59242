"""Masks that turn the nets' magnitude estimates into shares of the mixture."""

import numpy as np
from numpy.typing import NDArray

# Spleeter's EPSILON: keeps silent bins finite and shares them equally.
EPSILON = 1e-10


def ratio_masks(estimates: NDArray[np.float32], *, exponent: float = 2.0) -> NDArray[np.float32]:
    """Soft masks from the energies of all stems' estimates.

    mask_k = (e_k^p + eps / K) / (sum_j e_j^p + eps), as Spleeter's separation defines it.

    Args:
        estimates: float32 [stems, ...], magnitudes, non-negative; at least two stems,
            since a single one would get the mask 1 everywhere.
        exponent: p, positive; 2 compares energies, 1 magnitudes.

    Returns:
        float32 [stems, ...], each in [0, 1], summing to 1 over the stems.

    Raises:
        ValueError: fewer than two stems.
    """
    if len(estimates) < 2:
        raise ValueError(f"a ratio mask needs at least two stems, got {len(estimates)}")
    energies = np.square(estimates) if exponent == 2.0 else np.power(estimates, exponent)
    total = np.sum(energies, axis=0, keepdims=True) + np.float32(EPSILON)
    masks: NDArray[np.float32] = (energies + np.float32(EPSILON / len(estimates))) / total
    return masks


def direct_mask(estimate: NDArray[np.float32], mixture: NDArray[np.float32]) -> NDArray[np.float32]:
    """The net's own mask, estimate / mixture, for a single stem.

    Args:
        estimate: float32 [...], magnitudes.
        mixture: float32 [...], the magnitudes that the net was given.

    Returns:
        float32 [...]; 0 where the mixture is silent.
    """
    return np.divide(estimate, mixture, out=np.zeros_like(estimate), where=mixture > 0)

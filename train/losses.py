"""Training losses: the distance between the estimates of a batch and the true stems.

A new loss is a function here and a line in LOSSES: docs/extending.md.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from stemforge.train.batch import Batch
from stemforge.train.config import LossName

Estimates = Mapping[str, Any]  # float32 tensors [windows, frames, bins, 2], magnitudes, by stem


@dataclass(frozen=True)
class Loss:
    """A loss, and what a batch must hold for it.

    Attributes:
        terms: from a batch and its estimates to a float32 scalar for each stem; `total` sums them.
        needs_phases: the batch must hold the mixture's phases.
    """

    terms: Callable[[Batch, Estimates], dict[str, Any]]
    needs_phases: bool = False


def total(
    loss: Loss,
    batch: Batch,
    estimates: Estimates,
    *,
    stem_weights: Mapping[str, float] | None,
    own: Sequence[Any],
) -> Any:
    """What a step minimises: the weighted sum of the stems' terms, plus the net's own losses.

    Args:
        loss: of the run.
        batch: windows.
        estimates: the stems' estimates for these windows.
        stem_weights: factors of the stems' terms; None: all 1.
        own: losses that the net itself has added, such as a KL term.

    Returns:
        float32 scalar.
    """
    terms = loss.terms(batch, estimates)
    if stem_weights is not None:
        terms = {stem: stem_weights[stem] * term for stem, term in terms.items()}
    return tf.add_n([*terms.values(), *own])


def l1(estimate: Any, target: Any) -> Any:
    """Mean absolute error, Spleeter's loss for one stem.

    Args:
        estimate: float32 [batch, frames, bins, channels], magnitudes.
        target: the same shape.

    Returns:
        float32 scalar, in units of magnitude.
    """
    return tf.reduce_mean(tf.abs(estimate - target))


def weighted_l1(estimate: Any, target: Any) -> Any:
    """Mean absolute error, each window weighted by its target's mean (Spleeter's weighted_L1_mask).

    Windows where the stem is silent have weight 0.

    Args:
        estimate: float32 [batch, frames, bins, channels], magnitudes.
        target: the same shape.

    Returns:
        float32 scalar, in units of magnitude squared.
    """
    weight = tf.reduce_mean(target, axis=[1, 2, 3], keepdims=True)
    return tf.reduce_mean(weight * tf.abs(estimate - target))


def per_stem(term: Callable[[Any, Any], Any]) -> Loss:
    """A loss with one term per stem, which compares the stem's estimate with its target only."""

    def terms(batch: Batch, estimates: Estimates) -> dict[str, Any]:
        return {stem: term(estimates[stem], target) for stem, target in batch.stems.items()}

    return Loss(terms)


LOSSES: dict[LossName, Loss] = {"l1": per_stem(l1), "weighted_l1": per_stem(weighted_l1)}

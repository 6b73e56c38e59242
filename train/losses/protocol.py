"""What a loss is: a scalar for each stem, from a batch and its estimates."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from stemforge.train.batch import Batch

Estimates = Mapping[str, Any]  # float32 tensors [windows, frames, bins, 2], magnitudes, by stem


@dataclass(frozen=True)
class Loss:
    """A loss, and what a batch must hold for it.

    Attributes:
        terms: from a batch and its estimates to a float32 scalar for each stem.
        needs_phases: the batch must hold the mixture's phases.
        needs_waveforms: the batch must hold the stems' waveforms.
    """

    terms: Callable[[Batch, Estimates], dict[str, Any]]
    needs_phases: bool = False
    needs_waveforms: bool = False


def per_stem(term: Callable[[Any, Any], Any]) -> Loss:
    """A loss that compares a stem's estimate with its target only, both magnitudes."""

    def terms(batch: Batch, estimates: Estimates) -> dict[str, Any]:
        return {stem: term(estimates[stem], target) for stem, target in batch.stems.items()}

    return Loss(terms)


def with_mixture(term: Callable[[Any, Any, Any], Any]) -> Loss:
    """A loss that compares a stem's estimate with its target and the mixture, all magnitudes."""

    def terms(batch: Batch, estimates: Estimates) -> dict[str, Any]:
        return {
            stem: term(estimates[stem], target, batch.mixture)
            for stem, target in batch.stems.items()
        }

    return Loss(terms)

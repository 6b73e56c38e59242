"""What a step minimises: losses of the stems, by name, and their weighted sum.

- protocol: what a loss is
- magnitudes: losses of magnitudes
- sound: losses of waveforms and phases

A new loss is a function in one of these modules and a line in LOSSES: docs/extending.md. Each is
the mean of its windows' values, so that replicas with equal shares of a batch can be averaged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from stemforge.train.batch import Batch
from stemforge.train.config import KL, LossName
from stemforge.train.losses import magnitudes, sound
from stemforge.train.losses.protocol import Estimates, Loss, per_stem, with_mixture

# All names of LossName but KL, which a net adds itself.
LOSSES: dict[LossName, Loss] = {
    "l1": per_stem(magnitudes.l1),
    "weighted_l1": per_stem(magnitudes.weighted_l1),
    "l2": per_stem(magnitudes.l2),
    "rmse": per_stem(magnitudes.rmse),
    "log_l1": per_stem(magnitudes.log_l1),
    "mask": with_mixture(magnitudes.mask),
    "component_2": with_mixture(magnitudes.component_2),
    "component_3": with_mixture(magnitudes.component_3),
    "phase_sensitive": Loss(sound.phase_sensitive, needs_phases=True, needs_waveforms=True),
    "snr": Loss(sound.snr, needs_phases=True, needs_waveforms=True),
    "si_sdr": sound.of_waveforms(sound.si_sdr),
    "multi_resolution_stft": sound.of_waveforms(sound.multi_resolution_stft),
}


@dataclass(frozen=True)
class Objective:
    """A weighted sum of losses.

    Attributes:
        weights: factors by name; that of KL is the factor of the net's own losses, else 1.
    """

    weights: Mapping[LossName, float]

    @property
    def losses(self) -> dict[LossName, Loss]:
        """The losses that compare stems with estimates."""
        return {name: LOSSES[name] for name in self.weights if name != KL}

    @property
    def needs_phases(self) -> bool:
        """Whether batches must hold the mixture's phases."""
        return any(loss.needs_phases for loss in self.losses.values())

    @property
    def needs_waveforms(self) -> bool:
        """Whether batches must hold the stems' waveforms."""
        return any(loss.needs_waveforms for loss in self.losses.values())

    def values(
        self,
        batch: Batch,
        estimates: Estimates,
        *,
        stem_weights: Mapping[str, float] | None,
        own: Sequence[Any],
    ) -> dict[LossName, Any]:
        """The loss of each name, before its weight.

        Args:
            batch: windows.
            estimates: the stems' estimates for these windows.
            stem_weights: factors of the stems; None: all 1.
            own: losses that the net itself has added; there are none in validations.

        Returns:
            float32 scalars: of a loss the weighted sum over the stems, of KL the sum of `own`.
        """
        found = {}
        for name, loss in self.losses.items():
            terms = loss.terms(batch, estimates)
            if stem_weights is not None:
                terms = {stem: stem_weights[stem] * term for stem, term in terms.items()}
            found[name] = tf.add_n([*terms.values()])
        if KL in self.weights:
            found[KL] = tf.add_n([*own, tf.zeros(())])
        return {name: found[name] for name in self.weights}

    def total(self, values: Mapping[LossName, Any], *, own: Sequence[Any]) -> Any:
        """What a step minimises.

        Args:
            values: of `values`.
            own: losses that the net itself has added; they count as they are, if KL has no weight.

        Returns:
            float32 scalar.
        """
        weighted = [self.weights[name] * value for name, value in values.items()]
        return tf.add_n([*weighted, *(() if KL in self.weights else own)])

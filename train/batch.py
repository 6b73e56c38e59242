"""The input of a step or a validation: windows of the mixture and of the stems."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Batch:
    """Windows, in the same order in all arrays. TensorFlow treats it as a nested structure.

    Attributes:
        mixture: float32 [windows, frames, bins, 2], magnitudes.
        stems: true magnitudes by stem, of the same shape.
        phases: the mixture's, of the same shape, in radians; None unless they were requested.
        waveforms: true sound by stem, float32 [windows, samples, 2], full scale at 1: the samples
            under the frames (Framing.span); frame k starts at sample k * step. None unless they
            were requested.
    """

    mixture: Any
    stems: Mapping[str, Any]
    phases: Any | None = None
    waveforms: Mapping[str, Any] | None = None

    @property
    def windows(self) -> int:
        """How many windows it holds."""
        return len(self.mixture)

    # tf.nest's protocol for other classes.
    def __tf_flatten__(self) -> tuple[tuple[tuple[str, ...], tuple[str, ...] | None], Any]:
        phases = () if self.phases is None else (self.phases,)
        heard = None if self.waveforms is None else tuple(self.waveforms)
        waveforms = () if self.waveforms is None else tuple(self.waveforms.values())
        parts = (self.mixture, tuple(self.stems.values()), phases, waveforms)
        return (tuple(self.stems), heard), parts

    @classmethod
    def __tf_unflatten__(
        cls, names: tuple[tuple[str, ...], tuple[str, ...] | None], parts: Any
    ) -> "Batch":
        (stems, heard), (mixture, magnitudes, phases, waveforms) = names, parts
        return cls(
            mixture,
            dict(zip(stems, magnitudes, strict=True)),
            phases[0] if phases else None,
            None if heard is None else dict(zip(heard, waveforms, strict=True)),
        )

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
    """

    mixture: Any
    stems: Mapping[str, Any]
    phases: Any | None = None

    @property
    def windows(self) -> int:
        """How many windows it holds."""
        return len(self.mixture)

    # tf.nest's protocol for other classes.
    def __tf_flatten__(self) -> tuple[tuple[str, ...], tuple[Any, ...]]:
        phases = () if self.phases is None else (self.phases,)
        return tuple(self.stems), (self.mixture, tuple(self.stems.values()), phases)

    @classmethod
    def __tf_unflatten__(cls, names: tuple[str, ...], parts: tuple[Any, ...]) -> "Batch":
        mixture, stems, phases = parts
        return cls(mixture, dict(zip(names, stems, strict=True)), *phases)

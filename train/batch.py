"""The input of a step or a validation: windows of the mixture and of the stems."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stemforge.features.signal.framing import Framing


@dataclass(frozen=True)
class Batch:
    """Windows, in the same order in all arrays. TensorFlow treats it as a nested structure.

    Attributes:
        mixture: float32 [windows, frames, bins, 2], magnitudes.
        stems: true magnitudes by stem, of the same shape.
        phases: the mixture's, of the same shape, in radians; None unless they were requested.
        waveforms: true waveforms by stem, float32 [windows, samples, channels], full scale at 1,
            of the framing.span(frames) samples under the frames; None unless they were requested.
        framing: of the STFT; None only where nothing needs waveforms.
    """

    mixture: Any
    stems: Mapping[str, Any]
    phases: Any | None = None
    waveforms: Mapping[str, Any] | None = None
    framing: Framing | None = None

    @property
    def windows(self) -> int:
        """How many windows it holds."""
        return len(self.mixture)

    # tf.nest's protocol for other classes: what is no tensor, and the tensors.
    def __tf_flatten__(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        phases = () if self.phases is None else (self.phases,)
        waveforms = () if self.waveforms is None else (dict(self.waveforms),)
        known = tuple(self.stems), self.framing
        return known, (self.mixture, tuple(self.stems.values()), phases, waveforms)

    @classmethod
    def __tf_unflatten__(cls, known: tuple[Any, ...], parts: tuple[Any, ...]) -> "Batch":
        (names, framing), (mixture, stems, phases, waveforms) = known, parts
        (phase,), (waveform,) = phases or (None,), waveforms or (None,)
        return cls(mixture, dict(zip(names, stems, strict=True)), phase, waveform, framing)

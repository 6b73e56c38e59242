"""Which samples belong to which frame; no library is loaded here."""

from dataclasses import dataclass
from typing import Any

from stemforge.errors import UserError


@dataclass(frozen=True)
class Framing:
    """How a signal is cut into frames.

    Attributes:
        length_samples: window and FFT length; 4096 in Spleeter, 93 ms at 44.1 kHz.
        step_samples: hop between frames; 1024 in Spleeter, 23 ms.
    """

    length_samples: int
    step_samples: int

    @property
    def bins(self) -> int:
        """Bins of the real FFT, length / 2 + 1."""
        return self.length_samples // 2 + 1

    def check(self, bins: int) -> None:
        """Refuses lengths that no inverse is made for, and more bins than the FFT has.

        Args:
            bins: how many of the lowest are used.

        Raises:
            UserError: it does; the message begins with the field's name.
        """
        length, step = self.length_samples, self.step_samples
        if length % 2:
            raise UserError(f"frame_length_samples={length}: must be even")
        if step < 1 or length % step or length // step < 3:
            raise UserError(
                f"frame_step_samples={step}: must divide frame_length_samples={length}, and be at "
                "most a third of it"
            )
        if bins > self.bins:
            raise UserError(f"bins={bins}: must be at most {self.bins}, the STFT's")

    def count(self, samples: int) -> int:
        """Number of whole frames in a signal, without padding."""
        if samples < self.length_samples:
            return 0
        return 1 + (samples - self.length_samples) // self.step_samples

    def span(self, frames: int) -> int:
        """Number of samples under `frames` frames."""
        return (frames - 1) * self.step_samples + self.length_samples

    def inside(self, frames: int) -> int:
        """Number of samples that as many frames cover as overlap; the others are at the ends."""
        return max(0, self.span(frames) - 2 * (self.length_samples - self.step_samples))

    def cover(self, samples: Any) -> Any:
        """Frames of a separation, on Spleeter's grid.

        One window of zeros comes first, and a frame starts at every hop before the end.

        Args:
            samples: length of the song: an int, or a TensorFlow integer in a graph.

        Returns:
            ceil((length + samples) / hop), of the same type.
        """
        return -(-(self.length_samples + samples) // self.step_samples)

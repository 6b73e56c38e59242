"""How far an export may differ from the trained nets, and names; this module loads no library."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stemforge.errors import UserError

if TYPE_CHECKING:
    from stemforge.eval.exports.parity import Parity

PARITY = "parity.json"  # among exports: what was measured, by file and stem


def segment_name(frames: int) -> str:
    """Name of the TFLite file from waveform to waveforms."""
    return f"separate-{frames}.tflite"


@dataclass(frozen=True)
class Bounds:
    """Upper bounds of a Parity; the defaults are those of `stemforge export`.

    Attributes:
        max_difference_saved_model: of relative_difference; the next ones are the same by format.
        max_difference_tflite_float32: see above.
        max_difference_tflite_float16: see above.
        max_difference_tflite_int8_weights: see above.
        max_difference_tflite_int8_mixed: see above.
        max_difference_segment: of TFLite files from waveform to waveforms.
        max_sdr_loss_db: loss of SDR of whole clips, in all formats except tflite_int8_mixed.
        max_sdr_loss_int8_mixed_db: the same in tflite_int8_mixed.
    """

    max_difference_saved_model: float = 1e-5
    max_difference_tflite_float32: float = 1e-4
    max_difference_tflite_float16: float = 1e-2
    max_difference_tflite_int8_weights: float = 0.1
    max_difference_tflite_int8_mixed: float = 0.3
    max_difference_segment: float = 1e-2
    max_sdr_loss_db: float = 0.1
    max_sdr_loss_int8_mixed_db: float = 0.3

    def check(self, name: str, kind: str, measured: "Parity") -> None:
        """Refuses an export that differs too much from the trained nets.

        Args:
            name: of the file and the stem, for the message.
            kind: format, such as "saved_model" or "tflite_float16".
            measured: its difference from the trained nets.

        Raises:
            UserError: an output is not finite, or differs by more than its bound.
        """
        if not measured.finite:
            raise UserError(f"export: {name}: the output is not finite")
        bound: float = getattr(self, f"max_difference_{kind}")
        if measured.relative_difference > bound:
            raise UserError(
                f"export: {name}: the relative rms difference from the trained nets is "
                f"{measured.relative_difference:.2e}, more than max_difference_{kind}={bound:.1e}"
            )
        which = "max_sdr_loss_db"
        if kind == "tflite_int8_mixed":
            which = "max_sdr_loss_int8_mixed_db"
        limit: float = getattr(self, which)
        if measured.sdr_change_db is not None and -measured.sdr_change_db > limit:
            raise UserError(
                f"export: {name}: the loss of SDR is {-measured.sdr_change_db:.3f} dB, more than "
                f"{which}={limit}"
            )

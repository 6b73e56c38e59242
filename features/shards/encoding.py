"""How magnitudes and phases are stored in a record. encoding_tf.py is the TensorFlow twin.

uint8 stores the square root of a magnitude in 255 steps of its bin's maximum over the
block (power-law companding): q = round(255 sqrt(m / scale)). Rounding spreads sqrt values
evenly over a step, and the mean of x^2 over the step around q is q^2 + 1/12, so a value is
decoded as scale (q^2 + 1/12) / 255^2, which keeps sums of magnitudes unbiased; q = 0, the
code of silence, is decoded as 0.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Encoding = Literal["float32", "float16", "uint8"]
PhaseEncoding = Literal["int8"]
# Little endian on every machine. float16 reaches 65 504; magnitudes of a full-scale sine 1024.
DTYPES: dict[Encoding, str] = {"float32": "<f4", "float16": "<f2", "uint8": "u1"}
STEPS = 255
STEP_VARIANCE = 1.0 / 12.0  # of a value spread evenly over one step
PHASE_STEPS = 256


@dataclass(frozen=True)
class Encoded:
    """Magnitudes of one block as stored.

    Attributes:
        values: [frames, bins, channels] of the encoding's type.
        scale: float32 [bins, channels], the largest magnitude of each bin, for uint8;
            float32 [0, channels] for the others.
    """

    values: NDArray[Any]
    scale: NDArray[np.float32]


def encode(magnitudes: NDArray[np.float32], encoding: Encoding) -> Encoded:
    """Encodes one block.

    Args:
        magnitudes: float32 [frames, bins, channels], non-negative.
        encoding: "float32" (exact), "float16" (relative error at most 2^-11) or "uint8".
    """
    if encoding != "uint8":
        none = np.zeros((0, magnitudes.shape[2]), np.float32)
        return Encoded(magnitudes.astype(DTYPES[encoding]), none)
    scale = magnitudes.max(axis=0)
    with np.errstate(divide="ignore"):
        gain = np.where(scale > 0, STEPS / np.sqrt(scale), 0).astype(np.float32)
    roots = np.sqrt(magnitudes)
    roots *= gain
    roots += np.float32(0.5)  # rounds: the conversion to uint8 cuts off
    return Encoded(roots.astype(np.uint8), scale)


def to_bytes(values: NDArray[Any]) -> bytes:
    """Values in C order; faster than NumPy's own copy for an STFT, whose channels are far apart."""
    return np.stack([values[..., c] for c in range(values.shape[-1])], axis=-1).tobytes()


def decode(
    values: NDArray[Any], scales: NDArray[np.float32], segments: NDArray[np.int32]
) -> NDArray[np.float32]:
    """Inverse of `encode`, for frames of several blocks.

    Args:
        values: [frames, bins, channels] of the encoding's type.
        scales: float32 [blocks, bins, channels]; not used unless values are uint8.
        segments: int32 [frames], which of the blocks each frame comes from.

    Returns:
        float32 [frames, bins, channels], magnitudes.
    """
    decoded = values.astype(np.float32)
    if values.dtype != np.uint8:
        return decoded
    squares = decoded * decoded + np.minimum(decoded, 1) * np.float32(STEP_VARIANCE)
    return np.asarray(squares * (scales * np.float32(STEPS**-2))[segments], np.float32)


def encode_phase(spectrum: NDArray[np.complex64]) -> NDArray[np.int8]:
    """Phase in 256 steps of the circle; an error of at most 0.0123 rad (-41 dB).

    Args:
        spectrum: complex64 of any shape.

    Returns:
        int8 of the same shape; -128 is -pi.
    """
    steps = np.rint(np.angle(spectrum) * np.float32(PHASE_STEPS / (2 * np.pi)))
    # +128 wraps to -128: the same angle.
    return np.asarray(steps.astype(np.int16), np.int8)


def decode_phase(codes: NDArray[np.int8]) -> NDArray[np.float32]:
    """Inverse of `encode_phase`: float32 radians in [-pi, pi)."""
    return codes.astype(np.float32) * np.float32(2 * np.pi / PHASE_STEPS)


def bytes_per_frame(encoding: Encoding, *, bins: int, channels: int = 2) -> int:
    """Size of one encoded frame in bytes."""
    return np.dtype(DTYPES[encoding]).itemsize * bins * channels

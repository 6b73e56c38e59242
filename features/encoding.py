"""How magnitudes are stored in a record."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Encoding = Literal["float32", "float16"]
# Little endian on every machine. float16 reaches 65 504; magnitudes of a full-scale sine 1024.
DTYPES: dict[Encoding, str] = {"float32": "<f4", "float16": "<f2"}


def encode(magnitudes: NDArray[np.float32], encoding: Encoding) -> bytes:
    """Serialises magnitudes.

    Args:
        magnitudes: float32 [frames, bins, channels], non-negative.
        encoding: "float32" (exact) or "float16" (relative error at most 2^-11).

    Returns:
        The values in C order.
    """
    return magnitudes.astype(DTYPES[encoding]).tobytes()


def decode(data: bytes, encoding: Encoding, *, bins: int, channels: int = 2) -> NDArray[np.float32]:
    """Inverse of `encode`; float32 [frames, bins, channels]."""
    values = np.frombuffer(data, DTYPES[encoding]).reshape(-1, bins, channels)
    return values.astype(np.float32)


def bytes_per_frame(encoding: Encoding, *, bins: int, channels: int = 2) -> int:
    """Size of one encoded frame in bytes."""
    return np.dtype(DTYPES[encoding]).itemsize * bins * channels

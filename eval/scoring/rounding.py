"""What rounding does to BSSEval's scores: where two correct programs do not agree.

The equations G x = b for the distortion filters are nearly singular where references are nearly
mono or have no high frequencies. Programs round G and its factors differently, as if b were off by

    r[i] = eps / 16 * sqrt(unknowns) * sqrt(G[i, i]) * w * z[i],    w^2 = sum of G[j, j] x[j]^2,

with z of standard deviation 1. This is a factorisation's backward error in float64; how loud each
reference is does not matter to it. 1/16 is measured against museval, which differs from this
program by a third of that to as much (benchmarks/rounding.py, docs/results.md).

One random draw of r is solved together with b. That gives an error of the filters that is as likely
as any, and with it an error dD of each projection or difference D of projections. The energy |D|^2
is then off by 2 <D, dD> + |dD|^2. The inner product is a sum of chances, so its standard deviation
is estimated, from its parts in narrow bands, which are independent.

Filters that are fitted to the very frame that is scored are an exception: there e - P is
orthogonal to dP, and the other inner products are as small as x r.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Spectra = NDArray[np.complex128]
LIMIT_DB = 1e-6  # scores that may differ by more are undetermined
BANDS = 64  # a quarter of the spectrum at 512 taps: enough to estimate a standard deviation
DB = 10.0 / math.log(10.0)  # of a small relative change of an energy


@dataclass(frozen=True)
class Bands:
    """Evenly spaced parts of a spectrum.

    Attributes:
        width: bins of a band.
        step: every so many bands one is used.
    """

    width: int
    step: int

    @classmethod
    def of(cls, size: int, taps: int) -> "Bands":
        """Bands of a spectrum of `size` samples that filters of `taps` taps can tell apart."""
        width = max(1, size // taps)
        return cls(width, max(1, size // 2 // width // BANDS))

    def cut(self, spectra: NDArray[Any]) -> NDArray[Any]:
        """[..., bins] to [..., bands, bins of a band], without a copy."""
        whole = spectra.shape[-1] // self.width
        bands = spectra[..., : whole * self.width].reshape(*spectra.shape[:-1], whole, self.width)
        return bands[..., :: self.step, :]


def draw(gram: Values, outputs: int) -> Values:
    """The error r without its factor w: float64 [unknowns, outputs]."""
    random = np.random.default_rng(0)  # the same scores each time
    scale = level(len(gram)) * np.sqrt(gram.diagonal())
    return scale[:, np.newaxis] * random.standard_normal((len(gram), outputs))


def level(unknowns: int) -> float:
    """The size of r without the factors that depend on the signals."""
    return float(np.finfo(float).eps) * math.sqrt(unknowns) / 16.0


def weights(gram: Values, found: Values) -> Values:
    """The factor w for each output: its size if all its inputs were orthogonal."""
    squares: Values = np.einsum("ij,ij,i->j", found, found, gram.diagonal())
    return np.sqrt(squares)


def is_negligible(bound: float, energy: float) -> bool:
    """Whether an error of this norm at most cannot matter to an energy, nor to a larger one."""
    # Two errors of a ratio, each twice the inner product.
    return 4.0 * DB * bound < LIMIT_DB * math.sqrt(energy)


def energy_error_db(
    part: Spectra, error: Spectra, energy: float, *, step: int, first: float | None = None
) -> float:
    """How far 10 log10 of an energy is off.

    Args:
        part: complex128 [channels, bands, bins], a spectrum in `Bands`.
        error: its error, of the same shape.
        energy: of the whole spectrum.
        step: of the bands.
        first: the inner product of part and error, where it is known.
    """
    if energy == 0.0:
        return math.inf
    if first is None:
        products = np.einsum("cbk,cbk->cb", part.conj(), error).real
        first = math.sqrt(step * float(np.square(products).sum()))
    second = step * float(np.square(np.abs(error)).sum())
    return DB * (2.0 * first + second) / energy

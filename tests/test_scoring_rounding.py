"""museval is the oracle; where it and we differ, arithmetic with 50 digits is."""

import decimal
from typing import Any

import museval.metrics
import numpy as np
import pytest
import scipy.signal

from stemforge.eval.scoring.bss_eval import BssEval, bss_eval
from tests.conftest import SHARED

FRAMES: dict[str, Any] = {"window": 3000, "hop": 3000}
NAMES = ("isr", "sir", "sar")


def stems(kind: str, floor_db: float, *, samples: int = 12_000) -> np.ndarray:
    """Two sources, low-passed or the first one mono, apart from noise or a side of this level."""
    random = np.random.default_rng(0)
    white = random.normal(0.0, 0.1, (2, samples, 2))
    found = scipy.signal.lfilter([1.0], [1.0, -0.9], white, axis=1)
    floor = 10.0 ** (floor_db / 20.0)
    if kind == "low":
        low = scipy.signal.ellip(10, 0.1, 200, 0.7, output="sos")
        return scipy.signal.sosfilt(low, found, axis=1) + floor * random.normal(size=found.shape)
    found[0, :, 1] = found[0, :, 0] + floor * found[0, :, 1]
    return found


def estimated(references: np.ndarray, noise_db: float) -> np.ndarray:
    """Most of each source, a part of the mixture, and noise over the whole band."""
    noise = np.random.default_rng(1).normal(size=references.shape)
    return 0.8 * references + 0.1 * references.sum(axis=0) + 10.0 ** (noise_db / 20.0) * noise


def differences_db(references: np.ndarray, estimates: np.ndarray, **options: Any) -> np.ndarray:
    """The largest of a frame's ISR, SIR and SAR between museval and us: [sources, frames]."""
    sdr, *theirs, _ = museval.metrics.bss_eval(references, estimates, **options)
    ours = bss_eval(references, estimates, **options)
    np.testing.assert_allclose(ours.sdr, sdr, atol=1e-9)  # which needs no filter
    return np.max(
        [np.abs(getattr(ours, n) - t) for n, t in zip(NAMES, theirs, strict=True)], axis=0
    )


@pytest.mark.parametrize(
    ("kind", "floor_db", "share"),
    [("low", -40, 0.0), ("low", -90, None), ("low", -140, 1.0), ("mono", -20, 0.0),
     ("mono", -100, None), ("mono", -150, 1.0), ("mono", -400, 0.0)],
)  # fmt: skip
def test_frames_that_are_not_undetermined_equal_musevals(
    kind: str, floor_db: float, share: float | None
) -> None:
    references = stems(kind, floor_db)
    estimates = estimated(references, noise_db=-40)
    found = bss_eval(references, estimates, filters_len=32, **FRAMES).undetermined
    differ = differences_db(references, estimates, filters_len=32, **FRAMES)
    assert not (differ[~found] > 1e-6).any()
    assert not (differ[found] < 1e-9).any()  # no frame is flagged for nothing
    assert share is None or found.mean() == share


def exact(references: np.ndarray, estimates: np.ndarray, taps: int) -> np.ndarray:
    """ISR, SIR and SAR of whole tracks by arithmetic with 50 digits: [3, sources].

    Args:
        references: int64 [sources, samples, channels], in units of 2^-23.
        estimates: of the same shape.
        taps: of the filters.
    """
    with decimal.localcontext(prec=50):
        sources, samples, channels = references.shape
        delayed = np.zeros((sources, channels, taps, samples + taps - 1), np.int64)
        for tap in range(taps):
            delayed[:, :, tap, tap : tap + samples] = references.swapaxes(1, 2)
        padded = np.pad(estimates.swapaxes(1, 2), ((0, 0), (0, 0), (0, taps - 1)))
        found = []
        for source in range(sources):
            everyone = _projected(delayed.reshape(-1, samples + taps - 1), padded[source])
            own = _projected(delayed[source].reshape(-1, samples + taps - 1), padded[source])
            true, wanted = (_decimals(x) for x in (delayed[source, :, 0], padded[source]))
            found.append(
                [
                    _ratio_db(true, own - true),
                    _ratio_db(own, everyone - own),
                    _ratio_db(everyone, wanted - everyone),
                ]
            )
    return np.array(found).T


def _decimals(values: np.ndarray) -> np.ndarray:
    return np.vectorize(lambda value: decimal.Decimal(int(value)), otypes=[object])(values)


def _ratio_db(signal: np.ndarray, error: np.ndarray) -> float:
    return float(10 * (np.square(signal).sum() / np.square(error).sum()).log10())


def _projected(delayed: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Least squares by Gaussian elimination, with museval's regularisation."""
    gram, cross = _decimals(delayed @ delayed.T), _decimals(delayed @ wanted.T)
    eps = decimal.Decimal(2) ** (46 - 52)  # in units of 2^-46
    gram[np.diag_indices(len(gram))] += eps
    for row in range(len(gram)):
        factors = gram[row + 1 :, row] / gram[row, row]
        gram[row + 1 :, row:] -= factors[:, np.newaxis] * gram[row, row:]
        cross[row + 1 :] -= factors[:, np.newaxis] * cross[row]
    for row in reversed(range(len(gram))):
        cross[row] = (cross[row] - gram[row, row + 1 :] @ cross[row + 1 :]) / gram[row, row]
    return cross.T @ _decimals(delayed)


@pytest.mark.parametrize(("floor_db", "is_undetermined"), [(-20, False), (-135, True)])
def test_neither_is_right_where_rounding_decides(floor_db: float, is_undetermined: bool) -> None:
    # The units of `exact` are 2^-23 of full scale; 2^3 stay free for peaks.
    references = np.round(stems("mono", floor_db, samples=500) * 2**20).astype(np.int64)
    estimates = np.round(estimated(references, noise_db=80)).astype(np.int64)
    right = exact(references, estimates, taps=8)
    pair = references / 2**23, estimates / 2**23
    options: dict[str, Any] = {"window": np.inf, "hop": np.inf, "filters_len": 8}
    ours = bss_eval(*pair, **options)
    theirs = np.array(museval.metrics.bss_eval(*pair, **options)[1:4])[:, :, 0]
    errors = [np.abs(x - right) for x in (_values(ours), theirs)]
    assert ours.undetermined.any() == is_undetermined
    assert all((error.max() > 1e-6) == is_undetermined for error in errors)


def _values(found: BssEval) -> np.ndarray:
    return np.stack([getattr(found, name)[:, 0] for name in NAMES])


@pytest.mark.parametrize(
    ("song", "bits", "is_undetermined"),
    [
        ("cc0-musdb/test/Software-Entwicklungskit - Caesium", 24, False),
        # Its references have nothing above 16 kHz, the estimates have.
        ("musdb18-7/test/AM Contra - Heart Peripheral", 24, True),
        # As musdb reads it, and we do: the rounding of the samples fills that band, in part.
        ("musdb18-7/test/AM Contra - Heart Peripheral", 16, None),
    ],
)
def test_real_songs_and_estimates_over_the_whole_band(
    song: str, bits: int, is_undetermined: bool | None
) -> None:
    path = SHARED / "data" / f"{song}.stem.mp4"
    if not path.is_file():
        pytest.skip(f"needs ../shared/data/{song}.stem.mp4")
    stempeg = pytest.importorskip("stempeg")
    audio, rate_hz = stempeg.read_stems(str(path))
    stems, start = audio[1:], audio.shape[1] // 2  # drums, bass, other, vocals
    stems = np.rint(stems[:, start : start + 2 * rate_hz] * 2 ** (bits - 1)) / 2 ** (bits - 1)
    references = np.stack([stems[3], stems[:3].sum(axis=0)])
    estimates = estimated(references, noise_db=-60)
    options: dict[str, Any] = {"window": rate_hz // 2, "hop": rate_hz // 2}
    differ = differences_db(references, estimates, **options)
    found = bss_eval(references, estimates, **options).undetermined
    if is_undetermined is None:
        assert not found.all()
        # Near the limit, and the number of BLAS's threads decides: an estimate's error may be more.
        assert differ[~found].max() <= 2e-6
    else:
        np.testing.assert_array_equal(found, is_undetermined)
        np.testing.assert_array_equal(differ > 1e-6, is_undetermined)

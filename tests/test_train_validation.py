"""Which validations are kept, and which count as improvements: tables by hand."""

import pytest

from stemforge.train.config import SelectBy
from stemforge.train.validation import Validations


def after(
    values: list[float], *, select_by: SelectBy = "valid_loss", patience: int | None, least: float
) -> list[Validations]:
    """The result after each of some validations, of steps 1, 2, ..."""
    found, now = [], Validations()
    for step, value in enumerate(values, 1):
        now = now.after(
            value,
            step,
            select_by=select_by,
            keep_best=2,
            patience=patience,
            min_improvement=least,
        )
        found.append(now)
    return found


@pytest.mark.parametrize(
    ("least", "stale", "plateaus"),
    [
        # Losses:     1.0   0.75  0.7   0.72  0.6  0.6
        (0.0,        [0,    0,    0,    1,    0,   1],   [0, 0, 0, 0, 0, 0]),
        # 0.7 and 0.72 are not 0.1 below 0.75, two in a row; 0.6 is, though not below 0.7.
        (0.125,      [0,    0,    1,    0,    0,   1],   [0, 0, 0, 1, 1, 1]),
        # Nothing is more than half below 1.0.
        (0.5,        [0,    1,    0,    1,    0,   1],   [0, 0, 1, 1, 2, 2]),
        (0.25,       [0,    1,    0,    1,    0,   1],   [0, 0, 0, 0, 1, 1]),
    ],
)  # fmt: skip
def test_an_improvement_is_larger_than_the_least(
    least: float, stale: list[int], plateaus: list[int]
) -> None:
    losses = [1.0, 0.75, 0.7, 0.72, 0.6, 0.6]
    found = after(losses, patience=2, least=least)
    assert [result.stale for result in found] == stale
    assert [result.plateaus for result in found] == plateaus
    # The truly best are kept all the same; of equal ones the earlier.
    assert found[3].best == ((0.7, 3), (0.72, 4))
    assert found[-1].best == ((0.6, 5), (0.6, 6))


def test_the_highest_sdr_is_best() -> None:
    found = after([3.0, 5.0, 4.0, 5.5, 5.5], select_by="valid_sdr", patience=2, least=0.5)
    assert [result.best for result in found] == [
        ((3.0, 1),),
        ((5.0, 2), (3.0, 1)),
        ((5.0, 2), (4.0, 3)),
        ((5.5, 4), (5.0, 2)),
        ((5.5, 4), (5.5, 5)),
    ]
    assert [result.stale for result in found] == [0, 0, 1, 0, 1]  # 5.5 is not more than 0.5 above
    assert [result.plateaus for result in found] == [0, 0, 0, 1, 1]

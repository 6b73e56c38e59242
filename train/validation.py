"""A run's best validations and its plateaus."""

from dataclasses import dataclass

from stemforge.train.config import SelectBy


@dataclass(frozen=True)
class Validations:
    """The result of all validations so far.

    Attributes:
        best: (value, step) of the best ones, best first; the value is a loss or an SDR.
        stale: validations since the last improvement or plateau.
        plateaus: number of plateaus.
        mark: value that the next improvement is measured from; None before the first validation.
    """

    best: tuple[tuple[float, int], ...] = ()
    stale: int = 0
    plateaus: int = 0
    mark: float | None = None

    def after(
        self,
        value: float,
        step: int,
        *,
        select_by: SelectBy,
        keep_best: int,
        patience: int | None,
        min_improvement: float,
    ) -> "Validations":
        """The result after one more validation.

        Args:
            value: what the validation is judged by.
            step: of the run.
            select_by: what the value is; the smallest loss is best, and the highest SDR.
            keep_best: at most this many are kept.
            patience: validations without an improvement that make a plateau; None: no plateaus.
            min_improvement: an improvement is better than the last one by more than this, so that
                small steps add up. What is kept is the truly best all the same.
        """
        sign = -1.0 if select_by == "valid_sdr" else 1.0
        ranked = sorted([*self.best, (value, step)], key=lambda v: (sign * v[0], v[1]))
        best = tuple(ranked[:keep_best])
        if self.mark is None or sign * (self.mark - value) > min_improvement:
            return Validations(best, 0, self.plateaus, mark=value)
        stale = self.stale + 1
        if patience is not None and stale >= patience:
            return Validations(best, 0, self.plateaus + 1, self.mark)
        return Validations(best, stale, self.plateaus, self.mark)

    def keeps(self, step: int) -> bool:
        """Whether a step is among the best."""
        return any(step == kept for _, kept in self.best)

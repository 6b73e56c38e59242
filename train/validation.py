"""A run's best validations and its plateaus."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Validations:
    """The result of all validations so far.

    Attributes:
        best: (loss, step) of the best ones, best first.
        stale: validations since the last new best or plateau.
        plateaus: number of plateaus.
    """

    best: tuple[tuple[float, int], ...] = ()
    stale: int = 0
    plateaus: int = 0

    def after(
        self, loss: float, step: int, *, keep_best: int, patience: int | None
    ) -> "Validations":
        """The result after one more validation.

        Args:
            loss: of the validation.
            step: of the run.
            keep_best: at most this many are kept.
            patience: validations without a new best that make a plateau; None: no plateaus.
        """
        improved = not self.best or loss < self.best[0][0]
        best = tuple(sorted([*self.best, (loss, step)])[:keep_best])
        stale = 0 if improved else self.stale + 1
        if patience is not None and stale >= patience:
            return Validations(best, 0, self.plateaus + 1)
        return Validations(best, stale, self.plateaus)

    def keeps(self, step: int) -> bool:
        """Whether a step is among the best."""
        return any(step == kept for _, kept in self.best)

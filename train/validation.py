"""What validations say of a run: its best steps, and where it stands still."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Validations:
    """What is known after some validations.

    Attributes:
        best: (loss, step) of the best ones, best first.
        stale: validations since the last new best or plateau.
        plateaus: plateaus seen.
    """

    best: tuple[tuple[float, int], ...] = ()
    stale: int = 0
    plateaus: int = 0

    def after(
        self, loss: float, step: int, *, keep_best: int, patience: int | None
    ) -> "Validations":
        """What is known after one more.

        Args:
            loss: of the validation.
            step: of the run.
            keep_best: at most this many are kept.
            patience: validations without a new best that make a plateau; None: none is looked
                for.
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

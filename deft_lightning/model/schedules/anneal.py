"""The schedule of the anneal test: one stage whose pressure falls linearly (section 5.1). No torch."""

from __future__ import annotations

from dataclasses import dataclass

from deft_lightning.common import checks
from deft_lightning.model.schedules.base import Schedule, Timeline, check_fraction


@dataclass(frozen=True)
class Anneal(Schedule):
    """One stage whose pressure falls linearly to 1 (section 5.1).

        beta(t) = max(beta_high (1 - t / T), 1) at step t

    The defaults are those of the paper's example, a threshold of 52 at iteration 7,400.

    Attributes:
        beta_high: pressure at step 0.
        steps: T, in optimiser steps.
        fraction: factor on T, in (0, 1].

    Raises:
        DeftError: if `beta_high` is not above 1, or T or the fraction is out of range.
    """

    beta_high: float = 200.0
    steps: int = 10_000
    fraction: float = 1.0

    def __post_init__(self) -> None:
        checks.number("schedule.beta_high", self.beta_high, 1, above=True)
        checks.whole("schedule.steps", self.steps, 1)
        check_fraction(self.fraction)

    @property
    def stages(self) -> int:
        return 1

    @property
    def length(self) -> int:
        """Optimiser steps of the whole test."""
        return max(1, round(self.steps * self.fraction))

    def timeline(self, steps_per_epoch: int = 1) -> Timeline:
        """The schedule in optimiser steps, which does not depend on the length of an epoch."""
        return Timeline((self.length,), lambda index, step: max(self.beta_high * (1 - step / self.length), 1.0))

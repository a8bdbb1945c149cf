"""The schedule of the anneal test: one stage under a pressure that falls linearly (section 5.1). No torch."""

from __future__ import annotations

from dataclasses import dataclass

from deft_lightning.common import checks
from deft_lightning.model.schedules.base import Schedule, Timeline, check_fraction


@dataclass(frozen=True)
class Anneal(Schedule):
    """beta(t) = max(beta_high (1 - t / T), 1) for T = `steps` optimiser steps: section 5.1 of the paper.

    Its example, a threshold of 52 at iteration 7,400, is beta_high 200 and T 10,000, the defaults. `fraction`
    shortens T. Raises `DeftError` when beta_high is not above 1, or T or fraction is out of range.
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
        """The schedule in steps; the length of an epoch does not matter."""
        return Timeline((self.length,), lambda index, step: max(self.beta_high * (1 - step / self.length), 1.0))

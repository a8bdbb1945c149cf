"""The schedule of the anneal test: one stage under a pressure that falls linearly (section 5.1). Pure, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deft_lightning.common.checks import is_number
from deft_lightning.common.errors import DeftError
from deft_lightning.model.schedules.base import Schedule, Stage, check_fraction


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
        if not is_number(self.beta_high) or self.beta_high <= 1:
            raise DeftError(f"schedule.beta_high is {self.beta_high!r}: give a number above 1, to which beta falls.")
        if not isinstance(self.steps, int) or isinstance(self.steps, bool) or self.steps < 1:
            raise DeftError(f"schedule.steps is {self.steps!r}: give a whole number of optimiser steps above 0.")
        check_fraction(self.fraction)

    @property
    def stages(self) -> int:
        return 1

    @property
    def length(self) -> int:
        """Optimiser steps of the whole test."""
        return max(1, round(self.steps * self.fraction))

    def boundaries(self, steps_per_epoch: int) -> tuple[int, ...]:
        return (self.length,)

    def at(self, step: int, steps_per_epoch: int) -> Stage:
        return Stage(0, max(self.beta_high * (1 - step / self.length), 1.0))

    def record(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Without what an experiment has set for a schedule of its own."""
        return {key: value for key, value in fields.items() if key not in ("epochs", "pressures", "pressure")}


def anneal(
    beta_high: float = 200.0,
    steps: int = 10_000,
    fraction: float = 1.0,
    epochs: object = None,
    pressures: object = None,
    pressure: object = None,
) -> Anneal:
    """`Anneal` from a configuration.

    An experiment sets `epochs` and `pressures`, or `pressure`, for a schedule of its own; on top of one they are
    there and without effect.
    """
    return Anneal(beta_high, steps, fraction)

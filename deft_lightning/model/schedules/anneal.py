"""The schedule of the anneal test: one stage whose pressure falls linearly (section 5.1). No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from deft_lightning.common import checks
from deft_lightning.common.errors import DeftError
from deft_lightning.model.schedules.base import Schedule, Timeline, beta_high_of, check_fraction


@dataclass(frozen=True)
class Anneal(Schedule):
    """One stage whose pressure falls linearly to 1 (section 5.1).

        beta(t) = max(beta_high (1 - t / T), 1) at step t

    The paper's example, a threshold of 52 at iteration 7,400, has beta_high 200 and T 10,000.

    Attributes:
        beta_high: pressure at step 0. None: to be found from the images by `resolved`, before the first step.
        steps: T, in optimiser steps.
        fraction: factor on T, in (0, 1].

    Raises:
        DeftError: if `beta_high` is not above 1, or T or the fraction is out of range; from the timeline, for the
            pressure of a step while `beta_high` is None.
    """

    MARGIN: ClassVar[float] = 1.25
    """`beta_high` over the first eigenvalue of the images. A threshold above 0.9 of beta_high is not believed."""

    beta_high: float | None = None
    steps: int = 10_000
    fraction: float = 1.0

    def __post_init__(self) -> None:
        if self.beta_high is not None:
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
        return Timeline((self.length,), lambda index, step: max(self._highest * (1 - step / self.length), 1.0))

    @property
    def _highest(self) -> float:
        if self.beta_high is None:
            raise DeftError("schedule.beta_high is null: give a number, or use the schedule that `resolved` returns.")
        return self.beta_high

    def resolved(self, first_eigenvalue: Callable[[], float]) -> Anneal:
        """The schedule with a number for `beta_high`: where it is None, `MARGIN` times the first eigenvalue."""
        if self.beta_high is not None:
            return self
        return replace(self, beta_high=beta_high_of(self.MARGIN, first_eigenvalue()))

    def record(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """`fields` with the number of `beta_high` once it is known."""
        return {**fields, "beta_high": self.beta_high}

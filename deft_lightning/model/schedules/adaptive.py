"""A schedule whose stages end when the KL of the active group has settled. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from deft_lightning.common import checks
from deft_lightning.model.schedules.base import Piecewise, Schedule, Timeline


@dataclass(frozen=True)
class Adaptive(Schedule):
    """Stages of `pressures` that last until the active group has learnt what passes, at most `epochs` each.

    The rule: the KL of the active group, in nats, is averaged over windows of `window` steps, counted from the
    beginning of the stage. It has settled when the last `patience` + 1 averages differ by at most `tolerance` times
    their mean, or by `tolerance` nats where the mean is below one. A stage ends with the first window, no earlier than
    `min_epochs` into it, after which this is so, and at the latest after its `epochs`. `fraction` shortens both
    bounds, not the window.

    Its timeline learns as it goes: `callbacks.AdaptiveStages` calls `observe`, keeps `state` in the checkpoint, and
    ends the training with the last stage. Raises `DeftError` when a field is out of range.
    """

    epochs: Sequence[float]
    pressures: Sequence[float]
    min_epochs: float = 0.25
    window: int = 500
    patience: int = 3
    tolerance: float = 0.05
    fraction: float = 1.0

    def __post_init__(self) -> None:
        Piecewise(self.epochs, self.pressures, self.fraction)  # raises for lists that do not fit
        for name in ("window", "patience"):
            checks.whole(f"schedule.{name}", getattr(self, name), 1)
        for name in ("min_epochs", "tolerance"):
            checks.number(f"schedule.{name}", getattr(self, name))

    @property
    def stages(self) -> int:
        return len(self.pressures)

    def timeline(self, steps_per_epoch: int) -> AdaptiveTimeline:
        return AdaptiveTimeline(self, steps_per_epoch)


class AdaptiveTimeline(Timeline):
    """The stages that have ended so far and, for those after them, the latest possible ends."""

    def __init__(self, schedule: Adaptive, steps_per_epoch: int) -> None:
        self._rule = schedule
        latest = Piecewise(schedule.epochs, schedule.pressures, schedule.fraction).timeline(steps_per_epoch).boundaries
        super().__init__(latest, lambda index, step: schedule.pressures[index])
        self._lengths = [end - begin for begin, end in zip((0, *latest), latest, strict=False)]  # longest, in steps
        self._shortest = schedule.min_epochs * steps_per_epoch * schedule.fraction
        self._ends: list[int] = []  # steps at which stages have ended
        self._means: list[float] = []  # of the windows of this stage that are over

    @property
    def boundaries(self) -> tuple[int, ...]:
        ends = list(self._ends)
        for length in self._lengths[len(ends) :]:
            ends.append((ends[-1] if ends else 0) + length)
        return tuple(ends)

    def window_ends(self, step: int) -> bool:
        """Whether a window of the stage is over after `step` steps."""
        return (step - self._begin) % self._rule.window == 0

    def observe(self, step: int, mean: float | None) -> bool:
        """Whether the stage ends after `step` steps; to be called once after every step.

        `mean` is the KL of the active group in nats, averaged over the window that ends with this step, None inside
        a window.
        """
        if self.finished:
            return False
        if mean is not None:
            self._means.append(mean)
        over = step >= self.boundaries[len(self._ends)]
        settled = mean is not None and step - self._begin >= self._shortest and self._settled()
        if not over and not settled:
            return False
        self._ends.append(step)
        self._means = []
        return True

    @property
    def _begin(self) -> int:
        return self._ends[-1] if self._ends else 0

    def _settled(self) -> bool:
        last = self._means[-self._rule.patience - 1 :]
        if len(last) <= self._rule.patience:
            return False
        return max(last) - min(last) <= self._rule.tolerance * max(1.0, sum(last) / len(last))

    @property
    def finished(self) -> bool:
        """Whether the last stage has ended."""
        return len(self._ends) == len(self._lengths)

    @property
    def state(self) -> dict[str, Any]:
        """What it has learnt, as plain lists."""
        return {"ends": list(self._ends), "means": list(self._means)}

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        self._ends, self._means = list(state["ends"]), list(state["means"])

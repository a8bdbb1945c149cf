"""A schedule whose stages end when the KL of the active group has settled. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from deft_lightning.common import checks
from deft_lightning.model.schedules.base import Piecewise, Schedule, Timeline


@dataclass(frozen=True)
class Adaptive(Schedule):
    """Stages that end when the KL of the active group has settled, or after a longest length.

    The KL of the active group, in nats, is averaged over windows of steps, counted from the beginning of the stage. It
    has settled when the last `patience` + 1 averages m fulfil

        max(m) - min(m) <= tolerance max(1, mean(m))

    A stage ends with the first window after which this is true, but no earlier than `min_epochs` after its beginning
    and no later than its `epochs`.

    When the stages end is not known in advance. The callback `AdaptiveStages` reports every step to the timeline by
    `observe`, keeps its `state` in the checkpoint, and ends the training with the last stage.

    Attributes:
        epochs: longest length of each stage.
        pressures: beta of each stage.
        min_epochs: shortest length of every stage.
        window: steps of a window.
        patience: number of averages, before the latest, that must agree with it.
        tolerance: largest difference of these averages, relative to their mean, or in nats where that is below 1.
        fraction: factor on the shortest and the longest lengths, in (0, 1]. Windows stay as they are.

    Raises:
        DeftError: if a field is out of range.
    """

    epochs: Sequence[float]
    pressures: Sequence[float]
    min_epochs: float = 0.25
    window: int = 500
    patience: int = 3
    tolerance: float = 0.05
    fraction: float = 1.0

    def __post_init__(self) -> None:
        Piecewise(self.epochs, self.pressures, self.fraction)  # checks all three
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
    """The ends of the stages that have ended, and the latest possible ends of the others."""

    def __init__(self, schedule: Adaptive, steps_per_epoch: int) -> None:
        self._rule = schedule
        latest = Piecewise(schedule.epochs, schedule.pressures, schedule.fraction).timeline(steps_per_epoch).boundaries
        super().__init__(latest, lambda index, step: schedule.pressures[index])
        self._longest = [end - begin for begin, end in zip((0, *latest), latest, strict=False)]  # steps of each stage
        self._shortest = schedule.min_epochs * steps_per_epoch * schedule.fraction  # steps of every stage
        self._ends: list[int] = []  # steps at which stages have ended
        self._means: list[float] = []  # of the completed windows of this stage, in nats

    @property
    def boundaries(self) -> tuple[int, ...]:
        ends = list(self._ends)
        for length in self._longest[len(ends) :]:
            ends.append((ends[-1] if ends else 0) + length)
        return tuple(ends)

    def window_ends(self, step: int) -> bool:
        """Whether a window of the stage ends after `step` steps."""
        return (step - self._begin) % self._rule.window == 0

    def observe(self, step: int, mean: float | None) -> bool:
        """Whether the stage ends after `step` steps. Must be called once after every step.

        Args:
            step: number of steps taken.
            mean: KL of the active group, averaged over the window that ends with this step, in nats; None if no window
                ends.
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
        return len(self._ends) == len(self._longest)

    @property
    def state(self) -> dict[str, Any]:
        """The ends and averages so far, as plain lists for a checkpoint."""
        return {"ends": list(self._ends), "means": list(self._means)}

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        self._ends, self._means = list(state["ends"]), list(state["means"])

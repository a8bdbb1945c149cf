"""A schedule whose stages end when the KL of the active group has settled. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from deft_lightning.common import checks
from deft_lightning.model.schedules.base import Piecewise, Schedule
from deft_lightning.model.schedules.observed import ObservedTimeline


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


class AdaptiveTimeline(ObservedTimeline):
    """The ends of the stages that have ended, and the latest possible ends of the others."""

    def __init__(self, schedule: Adaptive, steps_per_epoch: int) -> None:
        latest = Piecewise(schedule.epochs, schedule.pressures, schedule.fraction).timeline(steps_per_epoch).boundaries
        super().__init__(latest, lambda index, step: schedule.pressures[index])
        self.window, self.patience, self.tolerance = schedule.window, schedule.patience, schedule.tolerance
        self._longest = [end - begin for begin, end in zip((0, *latest), latest, strict=False)]  # steps of each stage
        self._shortest = schedule.min_epochs * steps_per_epoch * schedule.fraction  # steps of every stage
        self._ends = []
        self._means: list[float] = []  # KL of the active group in the completed windows of this stage, in nats

    @property
    def boundaries(self) -> tuple[int, ...]:
        ends = list(self._ends)
        for length in self._longest[len(ends) :]:
            ends.append((ends[-1] if ends else 0) + length)
        return tuple(ends)

    def observe(self, step: int, kl: Sequence[Sequence[float]] | None) -> bool:
        if self.finished:
            return False
        if kl is not None:
            self._means.append(sum(self._active(kl)))
        over = step >= self.boundaries[len(self._ends)]
        settled = kl is not None and step - self._begin >= self._shortest and self._settled(self._means)
        if not over and not settled:
            return False
        self._ends.append(step)
        self._means = []
        return True

    @property
    def finished(self) -> bool:
        return len(self._ends) == len(self._longest)

    @property
    def state(self) -> dict[str, Any]:
        """The ends and averages so far."""
        return {"ends": list(self._ends), "means": list(self._means)}

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        self._ends, self._means = list(state["ends"]), list(state["means"])

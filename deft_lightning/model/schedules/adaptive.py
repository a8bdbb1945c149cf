"""A schedule whose stages end when the KL of their group has settled. No torch."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from deft_lightning.common.checks import is_number
from deft_lightning.common.errors import DeftError
from deft_lightning.model.schedules.base import Piecewise, Schedule, Stage


class Adaptive(Schedule):
    """Stages of `pressures` that last until the active group has learnt what passes, at most `epochs` each.

    The rule: the KL of the active group, in nats, is averaged over windows of `window` steps, counted from the
    beginning of the stage. It has settled when the last `patience` + 1 averages differ by at most `tolerance` times
    their mean, or `tolerance` nats where the mean is below one. A stage ends with the first window, no earlier than
    `min_epochs` into it, after which this is so, and at the latest after its `epochs`. `fraction` shortens both
    bounds, not the window.

    Unlike other schedules this one learns as it goes: `callbacks.AdaptiveStages` feeds `observe`, keeps `state` in the
    checkpoint, and ends the training with the last stage. `boundaries` are the ends known so far and, for the stages
    after them, the latest possible. Raises `DeftError` when a field is out of range.
    """

    def __init__(
        self,
        epochs: Sequence[float],
        pressures: Sequence[float],
        min_epochs: float = 0.25,
        window: int = 500,
        patience: int = 3,
        tolerance: float = 0.05,
        fraction: float = 1.0,
    ) -> None:
        self._latest = Piecewise(epochs, pressures, fraction)
        for name, value in (("window", window), ("patience", patience)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise DeftError(f"schedule.{name} is {value!r}: give a whole number above 0.")
        for name, bound in (("min_epochs", min_epochs), ("tolerance", tolerance)):
            if not is_number(bound) or bound < 0:
                raise DeftError(f"schedule.{name} is {bound!r}: give a number from 0 up.")
        self.fraction = fraction
        self.min_epochs, self.window, self.patience, self.tolerance = min_epochs, window, patience, tolerance
        self._ends: list[int] = []  # steps at which stages have ended
        self._means: list[float] = []  # of the windows of this stage that are over
        self._seen: list[float] = []  # KL in this window

    @property
    def stages(self) -> int:
        return self._latest.stages

    def boundaries(self, steps_per_epoch: int) -> tuple[int, ...]:
        latest = self._latest.boundaries(steps_per_epoch)
        ends = list(self._ends)
        for stage in range(len(ends), self.stages):
            length = latest[stage] - (latest[stage - 1] if stage else 0)
            ends.append((ends[-1] if ends else 0) + length)
        return tuple(ends)

    def at(self, step: int, steps_per_epoch: int) -> Stage:
        index = min(bisect_right(self.boundaries(steps_per_epoch), step), self.stages - 1)
        return Stage(index, self._latest.pressures[index])

    def observe(self, step: int, kl: float | None, steps_per_epoch: int) -> bool:
        """Take note of the KL of the active group after `step` steps, None where it is not known; whether a stage ends.

        To be called once after every step.
        """
        if self.finished:
            return False
        if kl is not None:
            self._seen.append(kl)
        taken = step - (self._ends[-1] if self._ends else 0)
        window_ends = taken % self.window == 0 and bool(self._seen)
        if window_ends:
            self._means.append(sum(self._seen) / len(self._seen))
            self._seen = []
        earliest = self.min_epochs * steps_per_epoch * self.fraction
        over = step >= self.boundaries(steps_per_epoch)[len(self._ends)]
        if over or (window_ends and taken >= earliest and self._settled()):
            self._ends.append(step)
            self._means, self._seen = [], []
            return True
        return False

    def _settled(self) -> bool:
        last = self._means[-self.patience - 1 :]
        if len(last) <= self.patience:
            return False
        return max(last) - min(last) <= self.tolerance * max(1.0, sum(last) / len(last))

    @property
    def finished(self) -> bool:
        """Whether the last stage has ended."""
        return len(self._ends) == self.stages

    @property
    def state(self) -> dict[str, Any]:
        """What it has learnt, as plain lists."""
        return {"ends": list(self._ends), "means": list(self._means), "seen": list(self._seen)}

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        self._ends, self._means, self._seen = (list(state[key]) for key in ("ends", "means", "seen"))

"""A schedule that finds its pressures while training, without labels. No torch."""

from __future__ import annotations

import copy
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from deft_lightning.common import checks
from deft_lightning.common.errors import DeftError
from deft_lightning.model.schedules.base import Piecewise, Schedule, beta_high_of
from deft_lightning.model.schedules.observed import ObservedTimeline


@dataclass(frozen=True)
class Distil(Schedule):
    """One stage for every encoder group, each at the pressure at which its group begins to encode.

    Every stage begins with the pressure of the stage before, the first with `ratio` times `beta_high`. Then, after
    every window of steps:

    1. While no latent opens, the pressure is multiplied by `ratio`, down to 1. A latent opens when the mean of its KL
       over a window is `OPEN` nats or more. Only latents of the active group count, and of these only the ones that
       were closed when the stage began.
    2. Once one has opened, where none was closed, or at a pressure of 1, the pressure is held until the KL of the
       active group has settled: the last `patience` + 1 averages m fulfil

           max(m) - min(m) <= tolerance max(1, mean(m))

    3. Then the next stage begins, whose group becomes active. The old group is no longer active while the pressure
       falls: otherwise it would take the next factor.

    When the last group has settled, the pressure is 1 for the rest of the training, still in the last stage. The
    training is as long as `epochs` say, and that rest is at least the share `final` of it. Of the steps before, each of
    the S stages has ended by its share: the first by 1/S of them, the second by 2/S.

    Attributes:
        latents: of every group, as in `Groups`.
        epochs: length of the whole training; the lengths of several stages are added up.
        beta_high: pressure above which no information passes: the first eigenvalue of the images, see `data.spectrum`.
            None: to be found from the images by `resolved`, before the first step.
        ratio: of a pressure to the one before, in (0, 1].
        final: share of the training that is at least at a pressure of 1, in [0, 0.95].
        window: steps of a window.
        patience: number of averages, before the latest, that must agree with it.
        tolerance: largest difference of these averages, relative to their mean, or in nats where that is below 1.
        fraction: factor on the length, in (0, 1]. Windows stay as they are.

    Raises:
        DeftError: if a field is out of range; from the timeline while `beta_high` is None.
    """

    falls: ClassVar[bool] = True
    OPEN: ClassVar[float] = 0.1
    """KL of a latent that encodes, in nats: the limit of the anneal test."""

    latents: Sequence[int]
    epochs: float | Sequence[float]
    beta_high: float | None = None
    ratio: float = 0.7
    final: float = 0.5
    window: int = 250
    patience: int = 3
    tolerance: float = 0.05
    fraction: float = 1.0

    def __post_init__(self) -> None:
        epochs = [self.epochs] if checks.is_number(self.epochs) else self.epochs
        object.__setattr__(self, "latents", tuple(self.latents))
        Piecewise(epochs, [1] * len(epochs), self.fraction)  # type: ignore[arg-type]  # checks them
        object.__setattr__(self, "epochs", tuple(epochs))  # type: ignore[arg-type]
        if self.beta_high is not None:
            checks.number("schedule.beta_high", self.beta_high, 1, above=True)
        checks.number("schedule.ratio", self.ratio, 0, 1, above=True)
        checks.number("schedule.final", self.final, 0, 0.95)
        for name in ("window", "patience"):
            checks.whole(f"schedule.{name}", getattr(self, name), 1)
        checks.number("schedule.tolerance", self.tolerance)

    @property
    def stages(self) -> int:
        return len(self.latents)

    def timeline(self, steps_per_epoch: int) -> DistilTimeline:
        return DistilTimeline(self, steps_per_epoch)

    def resolved(self, first_eigenvalue: Callable[[], float]) -> Distil:
        """The schedule with a number for `beta_high`: where it is None, the first eigenvalue of the images."""
        if self.beta_high is not None:
            return self
        return replace(self, beta_high=beta_high_of(1, first_eigenvalue()))

    def record(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """`fields` with the number of `beta_high` once it is known."""
        return {**fields, "beta_high": self.beta_high}


class DistilTimeline(ObservedTimeline):
    """The ends and pressures so far; of the stages that have not ended, the latest possible ends."""

    def __init__(self, schedule: Distil, steps_per_epoch: int) -> None:
        if schedule.beta_high is None:
            raise DeftError("schedule.beta_high is null: give a number, or use the schedule that `resolved` returns.")
        self.window, self.patience, self.tolerance = schedule.window, schedule.patience, schedule.tolerance
        self._ratio, stages = schedule.ratio, schedule.stages
        steps = sum(schedule.epochs) * steps_per_epoch * schedule.fraction  # type: ignore[arg-type]
        self._latest: list[int] = []  # step at which each group has settled at the latest
        for stage in range(1, stages + 1):
            previous = self._latest[-1] if self._latest else 0
            self._latest.append(max(previous + 1, round((1 - schedule.final) * steps * stage / stages)))
        self._length = max(round(steps), self._latest[-1])
        super().__init__((*self._latest[:-1], self._length), lambda index, step: self._pressure_of(step))
        self._ends = []
        self._steps = [0]  # from which on each pressure holds
        self._pressures = [_rounded(schedule.ratio * schedule.beta_high)]
        self._kl: list[list[float]] = []  # of the latest window, by group
        self._closed: list[int] | None = None  # latents of the active group that were closed when the stage began
        self._means: list[float] | None = None  # KL of the active group since the pressure is held; None while it falls

    @property
    def boundaries(self) -> tuple[int, ...]:
        return (*self._ends, *self._latest[len(self._ends) : -1], *([] if self.finished else [self._length]))

    def observe(self, step: int, kl: Sequence[Sequence[float]] | None) -> bool:
        if self.finished:
            return False
        last = len(self._ends) == len(self._latest) - 1
        if step >= self._length:
            return self._end(step)
        if kl is not None:
            self._follow(step, self._active(kl))
            self._kl = [list(group) for group in kl]
        settled = kl is not None and self._means is not None and self._settled(self._means)
        if not settled and step < self._latest[len(self._ends)]:
            return False
        if not last:
            return self._end(step)
        if self._pressures[-1] != 1:
            self._set(step, 1.0)
        return False

    def _follow(self, step: int, kl: Sequence[float]) -> None:
        """Go on with the stage after a window with this KL of the active group."""
        if self._closed is None:  # no window of the stage has ended yet
            before = self._active(self._kl) if self._kl else [0.0] * len(kl)
            self._closed = [latent for latent, value in enumerate(before) if value < Distil.OPEN]
        if self._means is not None:
            self._means.append(sum(kl))
        elif self._pressures[-1] == 1 or not self._closed or any(kl[latent] >= Distil.OPEN for latent in self._closed):
            self._means = [sum(kl)]
        else:
            self._set(step, self._ratio * self._pressures[-1])

    def _set(self, step: int, pressure: float) -> None:
        self._steps.append(step)
        self._pressures.append(_rounded(pressure))

    def _end(self, step: int) -> bool:
        self._ends.append(step)
        self._closed = self._means = None
        return True

    def _pressure_of(self, step: int) -> float:
        return self._pressures[max(0, bisect_right(self._steps, step) - 1)]

    @property
    def finished(self) -> bool:
        return len(self._ends) == len(self._latest)

    @property
    def record(self) -> dict[str, Any]:
        """The ends of the stages, and every pressure with the step from which on it holds."""
        pressures = [list(pair) for pair in zip(self._steps, self._pressures, strict=True)]
        return {**super().record, "pressures": pressures}

    @property
    def state(self) -> dict[str, Any]:
        names = ("ends", "steps", "pressures", "kl", "closed", "means")
        return {name: copy.deepcopy(getattr(self, f"_{name}")) for name in names}

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, f"_{name}", copy.deepcopy(value))


def _rounded(pressure: float) -> float:
    """`pressure` to four digits, but at least 1."""
    return max(1.0, float(f"{pressure:.4g}"))

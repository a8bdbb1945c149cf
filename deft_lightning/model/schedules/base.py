"""Pressure schedules: to which stage a step belongs, and the pressure it trains under. Pure Python, no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from deft_lightning.common import checks
from deft_lightning.common.errors import DeftError


@dataclass(frozen=True)
class Stage:
    """The stage of one step: its index, counted from 0, and its pressure beta.

    Of a schedule whose `quantity` is "capacity", `pressure` is the capacity C in nats.
    """

    index: int
    pressure: float


class Timeline:
    """A schedule whose lengths are counted in steps: a function of the step, so a resumed run is in the right stage.

    `boundaries` are the steps at which the stages end; the last is the length of the training. `pressure_at(index,
    step)` is the pressure of the stage `index` at `step`.
    """

    def __init__(self, boundaries: Sequence[int], pressure_at: Callable[[int, int], float]) -> None:
        self._boundaries, self._pressure_at = tuple(boundaries), pressure_at

    @property
    def boundaries(self) -> tuple[int, ...]:
        """The step at which each stage ends."""
        return self._boundaries

    @property
    def length(self) -> int:
        """Optimiser steps of the whole training."""
        return self.boundaries[-1]

    def at(self, step: int) -> Stage:
        """The stage of `step`, counted from 0; the last stage continues after the schedule has ended."""
        index = min(bisect_right(self.boundaries, step), len(self.boundaries) - 1)
        return Stage(index, self._pressure_at(index, step))


class Schedule(ABC):
    """The stages of a training and their pressures, with lengths in epochs or steps.

    `timeline` counts them in steps. `fraction` shortens every stage in proportion; 1 is the schedule as the paper has
    it. `quantity` is what `Stage.pressure` holds: "pressure", the weight of the KL term, or "capacity", its target in
    nats.
    """

    quantity: ClassVar[str] = "pressure"
    fraction: float

    @abstractmethod
    def timeline(self, steps_per_epoch: int) -> Timeline:
        """The schedule in optimiser steps, of which an epoch has `steps_per_epoch`."""

    @property
    @abstractmethod
    def stages(self) -> int:
        """The number of stages."""

    def check(self, data: Mapping[str, Any]) -> None:  # noqa: B027  # most schedules fit any data
        """Raise `DeftError` when the schedule was made for other data than `data`, their entry in results.json."""

    def record(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """What results.json keeps, and a resumed run must match, of the configuration's `fields` of this schedule."""
        return dict(fields)


@dataclass(frozen=True)
class Piecewise(Schedule):
    """Piecewise constant pressures, one stage after another (Algorithm 1 and Table 1).

    `epochs` is the length of each stage, `pressures` its beta. Raises `DeftError` when there are not as many of one as
    of the other, or when a length, pressure or fraction is out of range.
    """

    epochs: Sequence[float]
    pressures: Sequence[float]
    fraction: float = 1.0

    def __post_init__(self) -> None:
        for name in ("epochs", "pressures"):
            values = _numbers(f"schedule.{name}", getattr(self, name))
            object.__setattr__(self, name, values)
        if len(self.epochs) != len(self.pressures):
            raise DeftError(
                f"schedule.pressures has {len(self.pressures)} values and schedule.epochs has "
                f"{len(self.epochs)} stages: give every stage one pressure and one length."
            )
        if min(self.epochs) <= 0:
            raise DeftError(f"schedule.epochs is {list(self.epochs)}: every stage must be longer than 0 epochs.")
        if min(self.pressures) < 0:
            raise DeftError(f"schedule.pressures is {list(self.pressures)}: a pressure cannot be negative.")
        check_fraction(self.fraction)

    @property
    def stages(self) -> int:
        return len(self.pressures)

    def timeline(self, steps_per_epoch: int) -> Timeline:
        ends: list[int] = []
        epochs = 0.0
        for length in self.epochs:
            epochs += length
            end = round(epochs * steps_per_epoch * self.fraction)
            ends.append(max(end, (ends[-1] if ends else 0) + 1))  # however short, no stage is skipped
        return Timeline(ends, lambda index, step: self.pressures[index])


@dataclass(frozen=True)
class OneStage(Schedule):
    """A schedule of one stage, `epochs` long or, where that is None, `steps`."""

    epochs: float | None = None
    steps: int | None = None
    fraction: float = 1.0

    def __post_init__(self) -> None:
        for field, length in (("epochs", self.epochs), ("steps", self.steps)):
            if length is not None:
                checks.number(f"schedule.{field}", length, above=True, example=f"schedule.{field}=23")
        if self.epochs is None and self.steps is None:
            raise DeftError("schedule.epochs and schedule.steps are both null: give the length of the training in one.")
        check_fraction(self.fraction)

    @property
    def stages(self) -> int:
        return 1

    def timeline(self, steps_per_epoch: int) -> Timeline:
        length = self.steps if self.epochs is None else self.epochs * steps_per_epoch
        assert length is not None  # checked above
        return Timeline((max(1, round(length * self.fraction)),), lambda index, step: self.pressure_at(step))

    @abstractmethod
    def pressure_at(self, step: int) -> float:
        """The pressure, or the capacity, at `step`."""


@dataclass(frozen=True, kw_only=True)
class Constant(OneStage):
    """One stage under one `pressure`: the schedule of a beta-VAE (Eq. 2).

    It lasts `epochs`, or `steps` where epochs is None. Raises `DeftError` when the pressure is not a number from 0
    up or the length not above 0.
    """

    pressure: float

    def __post_init__(self) -> None:
        checks.number("schedule.pressure", self.pressure, example="schedule.pressure=6")
        super().__post_init__()

    def pressure_at(self, step: int) -> float:
        return self.pressure


@dataclass(frozen=True, kw_only=True)
class Capacity(OneStage):
    """AnnealedVAE's capacity (Burgess et al. 2018): C(t) = min(c_max, c_max t / T) nats at step t.

    `c_max` is in nats; `increase_steps` is T, which `fraction` shortens as it does the training. Raises `DeftError`
    when either is not above 0.
    """

    quantity: ClassVar[str] = "capacity"
    c_max: float
    increase_steps: int

    def __post_init__(self) -> None:
        for field in ("c_max", "increase_steps"):
            checks.number(f"schedule.{field}", getattr(self, field), above=True)
        super().__post_init__()

    def pressure_at(self, step: int) -> float:
        return self.c_max * min(1.0, step / (self.increase_steps * self.fraction))


def _numbers(field: str, values: object) -> tuple[float, ...]:
    if isinstance(values, str) or not isinstance(values, Sequence) or not values:
        raise DeftError(f"{field} is {values!r}: give a list of numbers, one a stage, as in {field}=[70,30,12,1].")
    for value in values:
        if not checks.is_number(value):
            raise DeftError(f"{field} holds {value!r}, which is not a number: give one number a stage.")
    return tuple(values)


def check_fraction(fraction: float) -> None:
    """Raise `DeftError` unless a schedule can be shortened to `fraction`."""
    checks.number("scale.fraction", fraction, 0, 1, above=True)

"""Pressure schedules: which stage a step belongs to, and the pressure it trains under. Pure, no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from deft_lightning.common.checks import is_number
from deft_lightning.common.errors import DeftError


@dataclass(frozen=True)
class Stage:
    """A moment of Algorithm 1: the index of its stage, counted from 0, and its pressure beta.

    Of a schedule whose `quantity` is "capacity", `pressure` is the capacity C in nats.
    """

    index: int
    pressure: float


class Schedule(ABC):
    """Maps a training step to its `Stage`; a function of the step alone, so a resumed run is in the right stage.

    `fraction` shortens every stage in proportion; 1 is the schedule as the paper has it. `quantity` is what
    `Stage.pressure` holds: "pressure", the weight of the KL term, or "capacity", its target in nats.
    """

    quantity: ClassVar[str] = "pressure"
    fraction: float

    @abstractmethod
    def boundaries(self, steps_per_epoch: int) -> tuple[int, ...]:
        """The step at which each stage ends, in optimiser steps; the last is the length of the training."""

    @abstractmethod
    def at(self, step: int, steps_per_epoch: int) -> Stage:
        """The stage of `step`, counted from 0; the last stage goes on after the schedule has ended."""

    @property
    @abstractmethod
    def stages(self) -> int:
        """How many stages there are."""

    def check(self, data: Mapping[str, Any]) -> None:  # noqa: B027  # most schedules fit any data
        """Raise `DeftError` when the schedule was made for other data than `data`, their entry in results.json."""

    def record(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """What results.json keeps, and a resumed run must match, of the configuration's `fields` of this schedule."""
        return dict(fields)


@dataclass(frozen=True)
class Piecewise(Schedule):
    """Piecewise constant pressures, one stage after another (Algorithm 1 and Table 1).

    `epochs` is the length of each stage, `pressures` its beta. Raises `DeftError` when their numbers differ,
    or a length, pressure or fraction is out of range.
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

    def boundaries(self, steps_per_epoch: int) -> tuple[int, ...]:
        ends: list[int] = []
        epochs = 0.0
        for length in self.epochs:
            epochs += length
            end = round(epochs * steps_per_epoch * self.fraction)
            ends.append(max(end, (ends[-1] if ends else 0) + 1))  # however short, no stage is skipped
        return tuple(ends)

    def at(self, step: int, steps_per_epoch: int) -> Stage:
        index = min(bisect_right(self.boundaries(steps_per_epoch), step), self.stages - 1)
        return Stage(index, self.pressures[index])


@dataclass(frozen=True)
class OneStage(Schedule):
    """A schedule of one stage, `epochs` long or, where those are None, `steps`."""

    epochs: float | None = None
    steps: int | None = None
    fraction: float = 1.0

    def __post_init__(self) -> None:
        for field, length in (("epochs", self.epochs), ("steps", self.steps)):
            if length is not None and (not is_number(length) or length <= 0):
                raise DeftError(f"schedule.{field} is {length!r}: give one number above 0, as in schedule.{field}=23.")
        if self.epochs is None and self.steps is None:
            raise DeftError("schedule.epochs and schedule.steps are both null: give the length of the training in one.")
        check_fraction(self.fraction)

    @property
    def stages(self) -> int:
        return 1

    def boundaries(self, steps_per_epoch: int) -> tuple[int, ...]:
        length = self.steps if self.epochs is None else self.epochs * steps_per_epoch
        assert length is not None  # checked above
        return (max(1, round(length * self.fraction)),)


@dataclass(frozen=True, kw_only=True)
class Constant(OneStage):
    """One stage under one `pressure`: the schedule of a beta-VAE (Eq. 2).

    It lasts `epochs`, or `steps` where epochs is None. Raises `DeftError` when the pressure is not a number from 0
    up or the length not above 0.
    """

    pressure: float

    def __post_init__(self) -> None:
        if not is_number(self.pressure) or self.pressure < 0:
            raise DeftError(
                f"schedule.pressure is {self.pressure!r}: give one number from 0 up, as in schedule.pressure=6."
            )
        super().__post_init__()

    def at(self, step: int, steps_per_epoch: int) -> Stage:
        return Stage(0, self.pressure)


@dataclass(frozen=True, kw_only=True)
class Capacity(OneStage):
    """AnnealedVAE's capacity (Burgess et al. 2018): C(t) = min(c_max, c_max t / T) nats at step t.

    `c_max` in nats; `increase_steps` is T, which `fraction` shortens as it does the training. Raises `DeftError`
    when either is not above 0.
    """

    quantity: ClassVar[str] = "capacity"
    c_max: float
    increase_steps: int

    def __post_init__(self) -> None:
        for field in ("c_max", "increase_steps"):
            if not is_number(getattr(self, field)) or getattr(self, field) <= 0:
                raise DeftError(f"schedule.{field} is {getattr(self, field)!r}: give one number above 0.")
        super().__post_init__()

    def at(self, step: int, steps_per_epoch: int) -> Stage:
        return Stage(0, self.c_max * min(1.0, step / (self.increase_steps * self.fraction)))


def _numbers(field: str, values: object) -> tuple[float, ...]:
    if isinstance(values, str) or not isinstance(values, Sequence) or not values:
        raise DeftError(f"{field} is {values!r}: give a list of numbers, one a stage, as in {field}=[70,30,12,1].")
    for value in values:
        if not is_number(value):
            raise DeftError(f"{field} holds {value!r}, which is not a number: give one number a stage.")
    return tuple(values)


def check_fraction(fraction: float) -> None:
    """Raise `DeftError` unless a schedule can be shortened to `fraction`."""
    if not is_number(fraction) or not 0 < fraction <= 1:
        raise DeftError(f"scale.fraction is {fraction!r}: give a number above 0 and at most 1.")

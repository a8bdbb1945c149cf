"""Pressure schedules: the stage of every step, and its pressure. No torch."""

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
    """The stage of one step.

    Attributes:
        index: counted from 0.
        pressure: beta at this step; the capacity C in nats for a schedule whose `quantity` is "capacity".
    """

    index: int
    pressure: float


class Timeline:
    """A schedule in optimiser steps. It is a function of the step, so that a resumed run is in the right stage.

    Args:
        boundaries: the step at which each stage ends; the last one ends the training.
        pressure_at: the pressure as a function of the index of the stage and the step.
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
    """The stages of a training and their pressures, with lengths in epochs or steps. `timeline` is in steps only.

    Attributes:
        quantity: what `Stage.pressure` holds: "pressure", the weight of the KL term, or "capacity", its target in nats.
        fraction: factor on the length of every stage, in (0, 1].
        falls: whether the pressure of a stage may fall below the one with which it begins.
    """

    quantity: ClassVar[str] = "pressure"
    falls: ClassVar[bool] = False
    fraction: float

    @abstractmethod
    def timeline(self, steps_per_epoch: int) -> Timeline:
        """The schedule in optimiser steps, for epochs of `steps_per_epoch` steps."""

    @property
    @abstractmethod
    def stages(self) -> int:
        """The number of stages."""

    def check(self, data: Mapping[str, Any], likelihood: str) -> None:  # noqa: B027  # most schedules fit any
        """Raise `DeftError` if the schedule was made for other data or another likelihood.

        `data` is their entry in results.json, `likelihood` its label.
        """

    def resolved(self, first_eigenvalue: Callable[[], float]) -> Schedule:
        """The schedule with numbers for all that it takes from the images; itself where that is nothing.

        `first_eigenvalue` computes the pressure below which a collapsed model of the images opens its first latent, see
        `data.spectrum`; it takes seconds.
        """
        return self

    def without_files(self) -> Schedule:
        """An equal schedule that reads no file, for checkpoints."""
        return self

    def record(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The settings that results.json keeps and a resumed run must match, from the `fields` in the configuration."""
        return dict(fields)


@dataclass(frozen=True)
class Piecewise(Schedule):
    """Piecewise constant pressures, one stage after another (Algorithm 1 and Table 1).

    Attributes:
        epochs: length of each stage.
        pressures: beta of each stage.
        fraction: factor on every length, in (0, 1].

    Raises:
        DeftError: if the lists differ in length, or a length, pressure or fraction is out of range.
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
            ends.append(max(end, (ends[-1] if ends else 0) + 1))  # every stage has at least one step
        return Timeline(ends, lambda index, step: self.pressures[index])


@dataclass(frozen=True)
class OneStage(Schedule):
    """A schedule of one stage. It lasts `epochs` or, where that is None, `steps`."""

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
    """One stage under a constant pressure: the schedule of a beta-VAE (Eq. 2).

    Attributes:
        pressure: beta.
        epochs: length of the training; None to use `steps`.
        steps: length in optimiser steps, where `epochs` is None.
        fraction: factor on the length, in (0, 1].

    Raises:
        DeftError: for a negative pressure, or a length or fraction out of range.
    """

    pressure: float

    def __post_init__(self) -> None:
        checks.number("schedule.pressure", self.pressure, example="schedule.pressure=6")
        super().__post_init__()

    def pressure_at(self, step: int) -> float:
        return self.pressure


@dataclass(frozen=True, kw_only=True)
class Capacity(OneStage):
    """The capacity of AnnealedVAE (Burgess et al. 2018), which grows linearly up to a maximum.

        C(t) = min(c_max, c_max t / T) at step t

    Attributes:
        c_max: largest capacity, in nats.
        increase_steps: T, in optimiser steps.
        epochs: length of the training; None to use `steps`.
        steps: length in optimiser steps, where `epochs` is None.
        fraction: factor on the length and on T, in (0, 1].

    Raises:
        DeftError: if `c_max`, `increase_steps`, the length or the fraction is out of range.
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


def beta_high_of(margin: float, first_eigenvalue: float) -> float:
    """`margin` times the first eigenvalue of the images, to four digits; raises `DeftError` where it is not above 1."""
    beta_high = float(f"{margin * first_eigenvalue:.4g}")
    if beta_high <= 1:
        raise DeftError(
            f"the first eigenvalue of the images is {first_eigenvalue:.3g}, so that no information passes above a "
            "pressure of 1: check that the images differ, or give schedule.beta_high as a number."
        )
    return beta_high


def check_fraction(fraction: float) -> None:
    """Raise `DeftError` unless `fraction` is a number in (0, 1]."""
    checks.number("scale.fraction", fraction, 0, 1, above=True)

"""What counts as a number in a configuration."""

from __future__ import annotations

import math

from deft_lightning.common.errors import DeftError


def is_number(value: object) -> bool:
    """Whether `value` is a finite int or float; a bool, NaN or infinity is none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_whole(value: object) -> bool:
    """Whether `value` is an int; a bool is none."""
    return isinstance(value, int) and not isinstance(value, bool)


def number(name: str, value: object, above_zero: bool = False) -> float:
    """`value` as a float; raises `DeftError` unless it is a finite number from 0 up, or above 0."""
    if not is_number(value) or value < 0 or (above_zero and value == 0):  # type: ignore[operator]
        raise DeftError(f"objective.{name} is {value!r}: give a number {'above 0' if above_zero else 'from 0 up'}.")
    return float(value)  # type: ignore[arg-type]


def count(name: str, value: object) -> int:
    """`value`; raises `DeftError` unless it is a whole number from 1 up."""
    if not is_whole(value) or value < 1:  # type: ignore[operator]
        raise DeftError(f"objective.{name} is {value!r}: give a whole number from 1 up.")
    return value  # type: ignore[return-value]


def choice(name: str, value: object, choices: tuple[str, ...]) -> str:
    """`value`; raises `DeftError` unless it is one of `choices`."""
    if value not in choices:
        raise DeftError(f"objective.{name} is {value!r}: use one of {', '.join(choices)}.")
    return str(value)

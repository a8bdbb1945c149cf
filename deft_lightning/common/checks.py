"""Values of a configuration, checked: one sentence for each kind of wrong value."""

from __future__ import annotations

import math
from collections.abc import Collection

from deft_lightning.common.errors import DeftError


def is_number(value: object) -> bool:
    """Whether `value` is a finite int or float; a bool, NaN or infinity is not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_whole(value: object) -> bool:
    """Whether `value` is an int; a bool is not."""
    return isinstance(value, int) and not isinstance(value, bool)


def number(
    field: str, value: object, low: float = 0, high: float | None = None, *, above: bool = False, example: str = ""
) -> float:
    """`value`, if it is a finite number from `low` (with `above`: greater than `low`) up to `high`.

    Raises `DeftError` otherwise, naming the field; `example` ends the sentence, as in "schedule.pressure=6".
    """
    good = is_number(value) and (value > low if above else value >= low)  # type: ignore[operator]
    if not good or (high is not None and value > high):  # type: ignore[operator]
        raise DeftError(f"{field} is {value!r}: give a number {_range(low, high, above)}{_as_in(example)}.")
    return value  # type: ignore[return-value]


def whole(field: str, value: object, low: int = 0) -> int:
    """`value`, if it is a whole number from `low` up. Raises `DeftError` otherwise, naming the field."""
    if not is_whole(value) or value < low:  # type: ignore[operator]
        raise DeftError(f"{field} is {value!r}: give a whole number {_range(low, None, False)}.")
    return value  # type: ignore[return-value]


def share(field: str, value: object) -> float:
    """`value`, if it is a number from 0 to below 1. Raises `DeftError` otherwise, naming the field."""
    if not is_number(value) or not 0 <= value < 1:  # type: ignore[operator]
        raise DeftError(f"{field} is {value!r}: give a share from 0 to below 1, as in 0.1.")
    return float(value)  # type: ignore[arg-type]


def choice(field: str, value: object, choices: Collection[str]) -> str:
    """`value`, if it is one of `choices`. Raises `DeftError` otherwise, naming the field."""
    if value not in choices:
        raise DeftError(f"{field} is {value!r}: use one of {', '.join(choices)}.")
    return str(value)


def flag(field: str, value: object) -> bool:
    """`value`, if it is true or false. Raises `DeftError` otherwise, naming the field."""
    if not isinstance(value, bool):
        raise DeftError(f"{field} is {value!r}: give true or false.")
    return value


def _range(low: float, high: float | None, above: bool) -> str:
    if above:
        return f"above {low:g}" + ("" if high is None else f" and at most {high:g}")
    return f"from {low:g} " + ("up" if high is None else f"to {high:g}")


def _as_in(example: str) -> str:
    return f", as in {example}" if example else ""

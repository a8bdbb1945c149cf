"""What counts as a number in a configuration."""

from __future__ import annotations

import math


def is_number(value: object) -> bool:
    """Whether `value` is a finite int or float; a bool, NaN or infinity is none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_whole(value: object) -> bool:
    """Whether `value` is an int; a bool is none."""
    return isinstance(value, int) and not isinstance(value, bool)

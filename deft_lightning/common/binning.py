"""Continuous factors, such as an angle measured with a sensor, as classes: bins of equal width."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_VALUES = 50
"""A column with more different values than this is continuous, unless they are whole numbers. Orientation in dSprites,
a factor of 40 classes, is often stored in radians."""
BINS = 20
"""For a continuous factor, as for a latent in the usual protocol of the field."""


def is_continuous(column: NDArray[Any]) -> bool:
    """Whether a column [N] holds floats of so many different values that each would be a class of its own."""
    if not np.issubdtype(column.dtype, np.floating):
        return False
    values = np.unique(column)
    return len(values) > MOST_VALUES and bool((values != np.rint(values)).any())


def binned(column: NDArray[Any], bins: int = BINS) -> NDArray[np.int64]:
    """The bin of every value of a column [N] of finite floats, from 0: `bins` of equal width over its range."""
    edges = np.linspace(column.min(), column.max(), bins + 1)
    return np.clip(np.searchsorted(edges, column, side="right") - 1, 0, bins - 1)


def notice(name: str, column: NDArray[Any]) -> str:
    """One sentence for the user about a factor that was binned."""
    return (
        f"factor {name} has {len(np.unique(column)):,} different values: it is taken as continuous, in {BINS} bins of "
        "equal width."
    )

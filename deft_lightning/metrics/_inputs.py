"""What every metric checks and converts first: codes [N, D] and factors [N, K] as numpy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deft_lightning.errors import DeftError

Codes = NDArray[np.float64]
Factors = NDArray[np.int64]


def as_codes(codes: Any) -> Codes:
    """Float64 [N, D] from numpy or torch; raises `DeftError` unless it is a finite matrix."""
    array = np.asarray(_numpy(codes), dtype=np.float64)
    if array.ndim != 2 or not len(array):
        raise DeftError(f"codes have shape {list(array.shape)}: give a matrix [N, D] of N points and D latents.")
    if not np.isfinite(array).all():
        raise DeftError("codes hold NaN or infinite values: no score is defined on them.")
    return array


def as_factors(factors: Any, count: int) -> Factors:
    """Int64 [N, K], the values of each column numbered from 0; raises `DeftError` unless N is `count`."""
    array = np.asarray(_numpy(factors))
    if array.ndim != 2 or len(array) != count:
        raise DeftError(
            f"factors have shape {list(array.shape)} and there are {count} codes: give a matrix [N, K] with one "
            "row for every code."
        )
    columns = [np.unique(column, return_inverse=True)[1] for column in array.T]
    return np.stack(columns, axis=1).astype(np.int64)


def _numpy(values: Any) -> Any:
    return values.detach().cpu().numpy() if hasattr(values, "detach") else values

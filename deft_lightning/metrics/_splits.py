"""What the metrics that predict factors from codes share: training and test tables, and which factors vary."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deft_lightning.common.errors import DeftError
from deft_lightning.metrics._inputs import FloatArray, IntArray, as_codes, as_factors, as_numpy


class Split(NamedTuple):
    """Training codes [N, D] and factors [N, K], test codes [M, D] and factors [M, K].

    A factor value has the same number in both tables.
    """

    codes: FloatArray
    factors: IntArray
    codes_test: FloatArray
    factors_test: IntArray


def as_split(codes: Any, factors: Any, codes_test: Any, factors_test: Any) -> Split:
    """Check and convert both tables.

    Raises `DeftError` as `as_codes` and `as_factors` do, or if the two tables differ in latents or factors.
    """
    codes, codes_test = as_codes(codes), as_codes(codes_test)
    count = len(codes)
    parts = [_matrix(factors), _matrix(factors_test)]
    if codes.shape[1] != codes_test.shape[1] or parts[0].shape[1] != parts[1].shape[1]:
        raise DeftError(
            f"training and test tables have {codes.shape[1]} and {codes_test.shape[1]} latents, "
            f"{parts[0].shape[1]} and {parts[1].shape[1]} factors: pass the same latents and factors in both."
        )
    if len(parts[0]) != count or len(parts[1]) != len(codes_test):
        raise DeftError(
            f"{count} training codes have {len(parts[0])} rows of factors and {len(codes_test)} test codes have "
            f"{len(parts[1])}: pass one row of factors per code."
        )
    values = as_factors(np.concatenate(parts), count + len(codes_test))
    return Split(codes, values[:count], codes_test, values[count:])


def varied(factors: IntArray) -> NDArray[np.bool_]:
    """Mask [K] of the factors that take more than one value; metrics are undefined for the others."""
    return (factors != factors[0]).any(axis=0)


def top_two_gap(matrix: FloatArray) -> FloatArray:
    """Largest minus second largest entry of each column [K] of a matrix [D, K]; the largest entry if D is 1."""
    ordered = np.sort(matrix, axis=0)
    return ordered[-1] - (ordered[-2] if len(matrix) > 1 else 0.0)


def _matrix(factors: Any) -> NDArray[Any]:
    array = np.asarray(as_numpy(factors))
    if array.ndim != 2:
        raise DeftError(f"factors have shape {list(array.shape)}: pass a matrix [N, K] with one row per code.")
    return array

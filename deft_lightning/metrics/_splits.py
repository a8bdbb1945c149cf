"""What the metrics that predict factors from codes share: a training and a test part, and which factors vary."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deft_lightning.common.errors import DeftError
from deft_lightning.metrics._inputs import Codes, Factors, as_codes, as_factors, as_numpy


class Split(NamedTuple):
    """Codes [N, D] and [M, D] and factors [N, K] and [M, K], the factors' values numbered alike in both parts."""

    codes: Codes
    factors: Factors
    codes_test: Codes
    factors_test: Factors


def as_split(codes: Any, factors: Any, codes_test: Any, factors_test: Any) -> Split:
    """Check and convert both parts; raises `DeftError` as `as_codes` and `as_factors` do, or when they do not fit."""
    codes, codes_test = as_codes(codes), as_codes(codes_test)
    count = len(codes)
    parts = [_matrix(factors), _matrix(factors_test)]
    if codes.shape[1] != codes_test.shape[1] or parts[0].shape[1] != parts[1].shape[1]:
        raise DeftError(
            f"training and test part differ: {codes.shape[1]} and {codes_test.shape[1]} latents, "
            f"{parts[0].shape[1]} and {parts[1].shape[1]} factors; give the same in both."
        )
    if len(parts[0]) != count or len(parts[1]) != len(codes_test):
        raise DeftError(
            f"{count} training codes come with {len(parts[0])} rows of factors and {len(codes_test)} test codes with "
            f"{len(parts[1])}: give one row of factors for every code."
        )
    values = as_factors(np.concatenate(parts), count + len(codes_test))
    return Split(codes, values[:count], codes_test, values[count:])


def varied(factors: Factors) -> NDArray[np.bool_]:
    """Which factors take more than one value, [K]: a metric says nothing about the others and leaves them out."""
    return (factors != factors[0]).any(axis=0)


def top_two_gap(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Largest minus second largest entry of every column, [K], of a score matrix [D, K]; the largest where D is 1."""
    ordered = np.sort(matrix, axis=0)
    return ordered[-1] - (ordered[-2] if len(matrix) > 1 else 0.0)


def _matrix(factors: Any) -> NDArray[Any]:
    array = np.asarray(as_numpy(factors))
    if array.ndim != 2:
        raise DeftError(f"factors have shape {list(array.shape)}: give a matrix [N, K], one row for every code.")
    return array

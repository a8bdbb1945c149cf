"""Input checks that all metrics share: codes [N, D] and factors [N, K] become numpy arrays."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deft_lightning.common.binning import binned, is_continuous, notice
from deft_lightning.common.errors import DeftError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def as_codes(codes: Any) -> FloatArray:
    """Convert numpy or torch codes to float64 [N, D]; raises `DeftError` if they are not a finite matrix."""
    try:
        # Column order, because the metrics read one latent at a time.
        array = np.asarray(as_numpy(codes), dtype=np.float64, order="F")
    except (TypeError, ValueError) as error:
        raise DeftError("codes are not numbers: pass a matrix [N, D] of N points and D latents.") from error
    if array.ndim != 2 or 0 in array.shape:
        raise DeftError(f"codes have shape {list(array.shape)}: pass a matrix [N, D] of N points and D latents.")
    if not np.isfinite(array).all():
        raise DeftError("codes contain NaN or infinite values: remove those points, or check the encoder.")
    return array


def as_factors(factors: Any, count: int) -> IntArray:
    """Convert factors to int64 [N, K] and number the values of each column from 0.

    A column of floats with many different values is continuous: it is binned, with a warning, see `common.binning`.
    Raises `DeftError` if they are not a matrix of `count` rows, or contain NaN or infinite values.
    """
    array = np.asarray(as_numpy(factors))
    if array.ndim != 2 or len(array) != count or not array.shape[1]:
        raise DeftError(
            f"factors have shape {list(array.shape)} and there are {count} codes: pass a matrix [N, K] with one "
            "row per code."
        )
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        raise DeftError("factors contain NaN or infinite values: remove those points.")
    return np.stack([_classes(column, k) for k, column in enumerate(np.ascontiguousarray(array.T))]).T


def _classes(column: NDArray[Any], place: int) -> IntArray:
    """Number the values of a column from 0, or its bins where it is continuous."""
    if is_continuous(column):
        warnings.warn(notice(str(place), column), stacklevel=1)  # this line, so that it is shown once
        column = binned(column)
    return _ranks(column)


def _ranks(column: NDArray[Any]) -> IntArray:
    """Replace each value of a column by its rank, from 0."""
    if np.issubdtype(column.dtype, np.integer):
        low, high = int(column.min()), int(column.max())
        if high - low <= len(column):  # integers in a narrow range: counting is faster than sorting
            shifted = (column - low if low else column).astype(np.int64, copy=False)
            present = np.bincount(shifted) > 0
            return shifted if present.all() else (np.cumsum(present) - 1)[shifted]
    return np.unique(column, return_inverse=True)[1]


def as_numpy(values: Any) -> Any:
    """Convert a torch tensor on any device to a numpy array; return anything else unchanged."""
    if not hasattr(values, "detach"):
        return values
    tensor = values.detach().cpu()
    return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()  # numpy has no bfloat16

"""What every metric checks and converts first: codes [N, D] and factors [N, K] as numpy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deft_lightning.common.errors import DeftError

Codes = NDArray[np.float64]
Factors = NDArray[np.int64]


def as_codes(codes: Any) -> Codes:
    """Float64 [N, D] from numpy or torch; raises `DeftError` unless it is a finite matrix."""
    try:
        array = np.asarray(as_numpy(codes), dtype=np.float64, order="F")  # metrics go latent by latent
    except (TypeError, ValueError) as error:
        raise DeftError("codes are not numbers: give a matrix [N, D] of N points and D latents.") from error
    if array.ndim != 2 or 0 in array.shape:
        raise DeftError(f"codes have shape {list(array.shape)}: give a matrix [N, D] of N points and D latents.")
    if not np.isfinite(array).all():
        raise DeftError("codes hold NaN or infinite values: no score is defined on them.")
    return array


def as_factors(factors: Any, count: int) -> Factors:
    """Int64 [N, K], the values of each column numbered from 0; raises `DeftError` unless N is `count`."""
    array = np.asarray(as_numpy(factors))
    if array.ndim != 2 or len(array) != count or not array.shape[1]:
        raise DeftError(
            f"factors have shape {list(array.shape)} and there are {count} codes: give a matrix [N, K] with one "
            "row for every code."
        )
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        raise DeftError("factors hold NaN or infinite values: leave those points out.")
    return np.stack([_numbered(column) for column in np.ascontiguousarray(array.T)]).T


def _numbered(column: NDArray[Any]) -> NDArray[np.int64]:
    """The values of a column by their rank, from 0; counted where they are whole and close together, else sorted."""
    if np.issubdtype(column.dtype, np.integer):
        low, high = int(column.min()), int(column.max())
        if high - low <= len(column):
            shifted = (column - low if low else column).astype(np.int64, copy=False)
            present = np.bincount(shifted) > 0
            return shifted if present.all() else (np.cumsum(present) - 1)[shifted]
    return np.unique(column, return_inverse=True)[1]


def as_numpy(values: Any) -> Any:
    """A torch tensor, wherever it is, as a numpy array; anything else as it comes."""
    if not hasattr(values, "detach"):
        return values
    tensor = values.detach().cpu()
    return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()  # numpy has no bfloat16

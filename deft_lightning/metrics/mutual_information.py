"""Mutual information between latents and factors, and the Mutual Information Gap built on it.

The protocol of the field: each latent is cut into 20 equal bins over its range, natural logarithms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr, xlogy

from deft_lightning.common.errors import DeftError
from deft_lightning.metrics._inputs import Codes, Factors, as_codes, as_factors

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class MIG:
    """`score`, the mean gap in [0, 1]; `per_factor`, the gap of every factor [K]."""

    score: float
    per_factor: Matrix

    def __str__(self) -> str:
        return f"MIG {self.score:.3f} (per factor {', '.join(f'{gap:.3f}' for gap in self.per_factor)})"


def mutual_information(codes: Any, factors: Any, bins: int = 20) -> Matrix:
    """I(z_j; v_k) in nats, [D, K], of latents [N, D] and factors [N, K], estimated by a histogram.

    A dead latent or a constant factor has no information. The estimate is biased upwards by about
    (bins - 1)(values - 1) / 2N nats; with fewer points than bins it is as good as meaningless, if defined. Raises
    `DeftError` for NaN codes, shapes that do not fit or no bins.
    """
    if bins < 1:
        raise DeftError(f"bins is {bins}: give at least 1 bin a latent (20 is the protocol of the field).")
    codes = as_codes(codes)
    return _mutual_information(codes, as_factors(factors, len(codes)), bins)


def factor_entropy(factors: Any) -> Matrix:
    """H(v_k) in nats, [K], of factors [N, K] as sampled."""
    values = as_factors(factors, len(factors))
    return np.array([_entropy(np.bincount(column)) for column in values.T])


def nmi(codes: Any, factors: Any, bins: int = 20) -> Matrix:
    """I(z_j; v_k) / H(v_k), [D, K] in [0, 1]; 0 for a factor that is constant in the sample (Eq. 5)."""
    return normalise(mutual_information(codes, factors, bins), factor_entropy(factors))


def normalise(information: Matrix, entropy: Matrix) -> Matrix:
    """NMI [D, K] from MI [D, K] and factor entropies [K] in nats; 0 for constant factors."""
    return np.divide(information, entropy, out=np.zeros_like(information), where=entropy > 0)


def max_nmi(matrix: Matrix, m: int) -> Matrix:
    """The m-th largest NMI of every factor, [K], m from 1, of an NMI matrix [D, K]; 0 where D < m (Eq. 5)."""
    if m < 1:
        raise DeftError(f"max_nmi got m={m}: the largest is m=1.")
    if len(matrix) < m:
        return np.zeros(matrix.shape[1])
    return np.sort(matrix, axis=0)[-m]


def mig(codes: Any, factors: Any, bins: int = 20) -> MIG:
    """Mutual Information Gap (Chen et al. 2018): mean over factors of max-1 minus max-2 NMI (Eq. 6).

    1 when every factor is in one latent alone; near 0 for a random representation: independent noise gets
    the mean gap of the two largest of D draws of chi-squared((bins - 1)(values - 1)), over 2N H(v_k), instead of 0.
    Factors that are constant in the sample have no gap and are left out of the mean. Known weakness: it says
    nothing about two factors sharing one latent. Raises as `mutual_information` does.
    """
    return gap(nmi(codes, factors, bins), factor_entropy(factors))


def gap(matrix: Matrix, entropy: Matrix) -> MIG:
    """MIG from an NMI matrix [D, K] and the factors' entropies [K]."""
    gaps = max_nmi(matrix, 1) - max_nmi(matrix, 2)  # [K]
    varied = entropy > 0
    return MIG(float(gaps[varied].mean()) if varied.any() else 0.0, gaps)


def discretise(codes: Codes, bins: int) -> NDArray[np.int64]:
    """Bin numbers 0 to bins - 1, [N, D]: equal bins from the smallest to the largest value of each latent.

    A bin holds its lower edge, and the last one its upper edge too. A dead latent is in one bin.
    """
    return np.stack([_binned(column, bins) for column in np.ascontiguousarray(codes.T)], axis=1)


def _binned(column: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    low, high = column.min(), column.max()
    if high == low:
        return np.zeros(len(column), dtype=np.int64)
    place = (column - low) / (high - low) * bins
    row = place.astype(np.int64)
    # Division finds the bin, but for values within rounding of an edge: there the edges have the last word.
    close = np.flatnonzero(np.abs(place - np.rint(place)) < 1e-6)
    row[close] = np.searchsorted(np.linspace(low, high, bins + 1)[1:-1], column[close], side="right")
    return row


def _mutual_information(codes: Codes, factors: Factors, bins: int) -> Matrix:
    """I = (S(joint) - S(latent) - S(factor)) / N + ln N with S = sum of c ln c over the counts c of the cells."""
    values = np.ascontiguousarray(factors.T)  # [K, N]
    sizes = values.max(axis=1) + 1
    offsets = np.concatenate([[0], np.cumsum(bins * sizes)])
    joint = np.empty((codes.shape[1], offsets[-1]), dtype=np.int64)  # a row holds the K tables [bins, values]
    for counts, column in zip(joint, np.ascontiguousarray(codes.T), strict=True):
        row = _binned(column, bins)
        for k, size in enumerate(sizes):  # one latent and factor at a time: what is counted stays in the cache
            cells = row * size
            cells += values[k]
            counts[offsets[k] : offsets[k + 1]] = np.bincount(cells, minlength=bins * size)
    latent = joint[:, : offsets[1]].reshape(len(joint), bins, -1).sum(axis=2)  # [D, bins]
    factor = [np.bincount(row) for row in values]
    term = np.arange(len(codes) + 1, dtype=np.float64)
    term = xlogy(term, term)  # c ln c of every count there can be
    of_latent = term[latent].sum(axis=1)[:, None]
    of_factor = np.array([term[counts].sum() for counts in factor])
    of_joint = np.add.reduceat(term[joint], offsets[:-1], axis=1)  # [D, K]
    information = (of_joint - of_latent - of_factor) / len(codes) + np.log(len(codes))
    # Exactly 0 where one side is constant: a rounding error would count as information in modularity.
    varied = ((latent > 0).sum(axis=1) > 1)[:, None] & np.array([(counts > 0).sum() > 1 for counts in factor])
    return np.where(varied, np.maximum(information, 0.0), 0.0)


def _entropy(counts: NDArray[np.int64]) -> float:
    return float(entr(counts / counts.sum()).sum())

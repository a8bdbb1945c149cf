"""Mutual information between latents and factors, and the Mutual Information Gap built on it.

The protocol of the field: each latent is cut into 20 equal bins over its range, natural logarithms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    (bins - 1)(values - 1) / 2N nats. Raises `DeftError` for NaN codes or shapes that do not fit.
    """
    codes = as_codes(codes)
    return _mutual_information(discretise(codes, bins), as_factors(factors, len(codes)), bins)


def factor_entropy(factors: Any) -> Matrix:
    """H(v_k) in nats, [K], of factors [N, K] as sampled."""
    values = as_factors(factors, len(factors))
    return np.array([_entropy(np.bincount(column)) for column in values.T])


def nmi(codes: Any, factors: Any, bins: int = 20) -> Matrix:
    """I(z_j; v_k) / H(v_k), [D, K] in [0, 1]; 0 for a factor that is constant in the sample (Eq. 5)."""
    entropy = factor_entropy(factors)  # [K]
    information = mutual_information(codes, factors, bins)  # [D, K]
    return np.divide(information, entropy, out=np.zeros_like(information), where=entropy > 0)


def max_nmi(matrix: Matrix, m: int) -> Matrix:
    """The m-th largest NMI of every factor, [K], of an NMI matrix [D, K]; 0 where D < m (Eq. 5)."""
    if len(matrix) < m:
        return np.zeros(matrix.shape[1])
    return np.sort(matrix, axis=0)[-m]


def mig(codes: Any, factors: Any, bins: int = 20) -> MIG:
    """Mutual Information Gap (Chen et al. 2018): mean over factors of max-1 minus max-2 NMI (Eq. 6).

    1 when every factor is in one latent alone; near 0 for a random representation. Factors that are
    constant in the sample have no gap and are left out of the mean. Known weakness: it says nothing about
    two factors sharing one latent. Raises as `mutual_information` does.
    """
    return gap(nmi(codes, factors, bins), factor_entropy(factors))


def gap(matrix: Matrix, entropy: Matrix) -> MIG:
    """MIG from an NMI matrix [D, K] and the factors' entropies [K]."""
    gaps = max_nmi(matrix, 1) - max_nmi(matrix, 2)  # [K]
    varied = entropy > 0
    return MIG(float(gaps[varied].mean()) if varied.any() else 0.0, gaps)


def discretise(codes: Codes, bins: int) -> NDArray[np.int64]:
    """Bin numbers 0 to bins - 1, [N, D]: equal bins from the smallest to the largest value of each latent."""
    columns = []
    for column in codes.T:
        edges = np.histogram_bin_edges(column, bins)
        columns.append(np.digitize(column, edges[:-1]) - 1)  # the largest value belongs to the last bin
    return np.stack(columns, axis=1)


def _mutual_information(binned: NDArray[np.int64], factors: Factors, bins: int) -> Matrix:
    latents = binned.shape[1]
    cells = binned + bins * np.arange(latents)  # [N, D]: one range of cell numbers a latent
    columns = []
    for values in factors.T:
        size = int(values.max()) + 1
        counts = np.bincount((cells * size + values[:, None]).ravel(), minlength=latents * bins * size)
        joint = counts.reshape(latents, bins, size) / len(values)  # [D, bins, values]
        independent = joint.sum(axis=2, keepdims=True) * joint.sum(axis=1, keepdims=True)
        ratio = np.divide(joint, independent, out=np.ones_like(joint), where=joint > 0)
        columns.append((joint * np.log(ratio)).sum(axis=(1, 2)))  # [D]
    return np.maximum(np.stack(columns, axis=1), 0.0)  # [D, K]


def _entropy(counts: NDArray[np.int64]) -> float:
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log(p)).sum())

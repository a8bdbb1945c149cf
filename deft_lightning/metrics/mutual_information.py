"""Mutual information between latents and factors, and the Mutual Information Gap (MIG).

The defaults are the usual protocol of the field: 20 bins of equal width per latent, natural logarithms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import entr, xlogy

from deft_lightning.common.errors import DeftError
from deft_lightning.metrics._inputs import FloatArray, IntArray, as_codes, as_factors


@dataclass(frozen=True)
class MIG:
    """Result of `mig`.

    Attributes:
        score: mean gap over the factors that vary, in [0, 1].
        per_factor: [K], gap of each factor.
    """

    score: float
    per_factor: FloatArray

    def __str__(self) -> str:
        return f"MIG {self.score:.3f} (per factor {', '.join(f'{gap:.3f}' for gap in self.per_factor)})"


def mutual_information(codes: Any, factors: Any, bins: int = 20) -> FloatArray:
    """Mutual information I(z_j; v_k) of each latent and factor in nats, [D, K], estimated by a histogram.

    It is 0 for a dead latent or a constant factor. The estimate is biased upwards by about

        (bins - 1)(values - 1) / 2N nats

    and carries no meaning if there are fewer points than bins.

    Args:
        codes: [N, D].
        factors: [N, K], any labels.
        bins: number of bins per latent, of equal width.

    Raises:
        DeftError: for NaN codes, shapes that do not match, or `bins` below 1.

    Examples:
        >>> import numpy as np
        >>> from deft_lightning.metrics import mutual_information
        >>> factors = np.indices((2, 2)).reshape(2, -1).T  # all combinations of two binary factors, [4, 2]
        >>> mutual_information(factors, factors).round(2)  # each latent encodes one factor: log(2) nats
        array([[0.69, 0.  ],
               [0.  , 0.69]])
    """
    if bins < 1:
        raise DeftError(f"bins is {bins}: use at least 1 bin per latent (20 is the usual protocol).")
    codes = as_codes(codes)
    return _mutual_information(codes, as_factors(factors, len(codes)), bins)


def factor_entropy(factors: Any) -> FloatArray:
    """Entropy H(v_k) in nats, [K], of the sampled factors [N, K].

    Examples:
        >>> from deft_lightning.metrics import factor_entropy
        >>> factor_entropy([[0, 5], [1, 5]]).round(2)  # log(2) nats, and 0 for a constant factor
        array([0.69, 0.  ])
    """
    values = as_factors(factors, len(factors))
    return np.array([_entropy(np.bincount(column)) for column in values.T])


def nmi(codes: Any, factors: Any, bins: int = 20) -> FloatArray:
    """Normalised mutual information of each latent and factor (Eq. 5), [D, K] in [0, 1].

        NMI_jk = I(z_j; v_k) / H(v_k)

    It is 0 for a factor that is constant in the sample. The arguments and errors are those of
    `mutual_information`.

    Examples:
        >>> import numpy as np
        >>> from deft_lightning.metrics import nmi
        >>> factors = np.indices((4, 5)).reshape(2, -1).T  # all combinations of 4 and 5 values, [20, 2]
        >>> nmi(factors // [2, 1], factors).round(2)  # the first latent separates halves of 4 values: 1 of 2 bits
        array([[0.5, 0. ],
               [0. , 1. ]])
    """
    return normalise(mutual_information(codes, factors, bins), factor_entropy(factors))


def normalise(information: FloatArray, entropy: FloatArray) -> FloatArray:
    """NMI [D, K] from MI [D, K] and factor entropies [K], both in nats; 0 for constant factors."""
    return np.divide(information, entropy, out=np.zeros_like(information), where=entropy > 0)


def max_nmi(matrix: FloatArray, m: int) -> FloatArray:
    """The m-th largest NMI of each factor (Eq. 5), [K], from an NMI matrix [D, K].

    `m` counts from 1. The result is 0 if there are fewer than m latents. Raises `DeftError` if `m` is below 1.

    Examples:
        >>> import numpy as np
        >>> from deft_lightning.metrics import max_nmi
        >>> max_nmi(np.array([[0.1, 0.9], [0.5, 0.2], [0.3, 0.4]]), m=2)
        array([0.3, 0.4])
    """
    if m < 1:
        raise DeftError(f"m is {m}: use 1 for the largest NMI, 2 for the second largest.")
    if len(matrix) < m:
        return np.zeros(matrix.shape[1])
    return np.sort(matrix, axis=0)[-m]


def mig(codes: Any, factors: Any, bins: int = 20) -> MIG:
    """Mutual Information Gap (Chen et al. 2018; Eq. 6): is each factor encoded in a single latent?

        MIG = mean_k (max-1_j NMI_jk - max-2_j NMI_jk)

    where max-1 and max-2 are the largest and second largest entry. The score is 1 if each factor is encoded
    in one latent only, and near 0 for a random representation. Independent noise scores slightly above 0: the
    mean gap between the two largest of D draws from

        chi-squared((bins - 1)(values - 1)) / 2N H(v_k)

    Factors that are constant in the sample are left out of the mean.

    Known weakness: the score does not show that one latent encodes two factors.

    Args:
        codes: [N, D].
        factors: [N, K], any labels.
        bins: number of bins per latent, of equal width.

    Raises:
        DeftError: as `mutual_information` does.

    Examples:
        >>> import numpy as np
        >>> from deft_lightning.metrics import mig
        >>> factors = np.indices((3, 4)).reshape(2, -1).T  # all combinations of 3 and 4 values, [12, 2]
        >>> print(mig(factors, factors))  # each latent encodes one factor
        MIG 1.000 (per factor 1.000, 1.000)
        >>> print(mig(factors @ [[1, 1], [1, -1]], factors))  # each latent mixes both factors
        MIG 0.000 (per factor 0.000, 0.000)
    """
    return gap(nmi(codes, factors, bins), factor_entropy(factors))


def gap(matrix: FloatArray, entropy: FloatArray) -> MIG:
    """MIG from an NMI matrix [D, K] and the factors' entropies [K]."""
    gaps = max_nmi(matrix, 1) - max_nmi(matrix, 2)  # [K]
    varied = entropy > 0
    return MIG(float(gaps[varied].mean()) if varied.any() else 0.0, gaps)


def discretise(codes: FloatArray, bins: int) -> IntArray:
    """Bin numbers from 0 to bins - 1, [N, D]. The bins of a latent divide its range equally.

    A bin includes its lower edge, and the last bin also its upper edge. A dead latent falls into one bin.
    """
    return np.stack([_binned(column, bins) for column in np.ascontiguousarray(codes.T)], axis=1)


def _binned(column: FloatArray, bins: int) -> IntArray:
    low, high = column.min(), column.max()
    if high == low:
        return np.zeros(len(column), dtype=np.int64)
    place = (column - low) / (high - low) * bins
    row = place.astype(np.int64)
    # Division may round a value next to an edge into the wrong bin; compare these values with the edges.
    close = np.flatnonzero(np.abs(place - np.rint(place)) < 1e-6)
    row[close] = np.searchsorted(np.linspace(low, high, bins + 1)[1:-1], column[close], side="right")
    return row


def _mutual_information(codes: FloatArray, factors: IntArray, bins: int) -> FloatArray:
    """Mutual information [D, K] from counts.

    I = (S(joint) - S(latent) - S(factor)) / N + log N,   S = sum of c log c over the counts c of the cells
    """
    values = np.ascontiguousarray(factors.T)  # [K, N]
    sizes = values.max(axis=1) + 1
    offsets = np.concatenate([[0], np.cumsum(bins * sizes)])
    joint = np.empty((codes.shape[1], offsets[-1]), dtype=np.int64)  # each row holds K tables [bins, values]
    for counts, column in zip(joint, np.ascontiguousarray(codes.T), strict=True):
        row = _binned(column, bins)
        for k, size in enumerate(sizes):  # one latent and one factor at a time, so that the data fit the CPU cache
            cells = row * size
            cells += values[k]
            counts[offsets[k] : offsets[k + 1]] = np.bincount(cells, minlength=bins * size)
    latent = joint[:, : offsets[1]].reshape(len(joint), bins, -1).sum(axis=2)  # [D, bins]
    factor = [np.bincount(row) for row in values]
    term = np.arange(len(codes) + 1, dtype=np.float64)
    term = xlogy(term, term)  # c log c for every possible count c
    of_latent = term[latent].sum(axis=1)[:, None]
    of_factor = np.array([term[counts].sum() for counts in factor])
    of_joint = np.add.reduceat(term[joint], offsets[:-1], axis=1)  # [D, K]
    information = (of_joint - of_latent - of_factor) / len(codes) + np.log(len(codes))
    # Set constant latents and factors to exactly 0: modularity would take a rounding error for information.
    varied = ((latent > 0).sum(axis=1) > 1)[:, None] & np.array([(counts > 0).sum() > 1 for counts in factor])
    return np.where(varied, np.maximum(information, 0.0), 0.0)


def _entropy(counts: IntArray) -> float:
    return float(entr(counts / counts.sum()).sum())

"""Separated Attribute Predictability: how much better the best latent predicts a factor than the second best."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import Parallel, cpu_count, delayed
from numpy.typing import NDArray
from sklearn.svm import LinearSVC

from deft_lightning.common.errors import DeftError
from deft_lightning.metrics._inputs import FloatArray, as_codes, as_numpy
from deft_lightning.metrics._splits import Split, as_split, top_two_gap, varied


@dataclass(frozen=True)
class SAP:
    """Result of `sap`.

    Attributes:
        score: mean gap over the factors that vary, in [0, 1].
        matrix: [D, K], how well each latent predicts each factor.
    """

    score: float
    matrix: FloatArray

    def __str__(self) -> str:
        return f"SAP {self.score:.3f}"


def sap(codes: Any, factors: Any, codes_test: Any, factors_test: Any, continuous: bool = False) -> SAP:
    """Separated Attribute Predictability (Kumar et al. 2018): is each factor predicted by a single latent?

        SAP = mean_k (largest - second largest entry of column k of S [D, K])

    For discrete factors, S_jk is the accuracy on the test table of a linear support vector machine (C = 0.01,
    balanced classes) that predicts factor k from latent j. For continuous factors, S_jk is the squared
    correlation of latent and factor over the training table; the test table is not used.

    The score is in [0, 1], and near 0 for a random representation. It is largest if one latent predicts each
    factor perfectly and the others do not predict it at all. With continuous factors this maximum is 1; with
    discrete factors it is 1 - mean_k 1/values_k, as all latents reach the accuracy of chance. Factors that
    are constant in training are left out. A dead latent has correlation 0, or the accuracy of chance.

    Known weakness: a linear classifier on a single latent cannot separate the inner values of a factor, so a
    perfect code of a factor with 8 values has a low accuracy. A factor that two latents encode equally scores
    0.

    Args:
        codes: [N, D], training codes.
        factors: [N, K], training factors: any labels, or numbers if `continuous`.
        codes_test: [M, D], test codes.
        factors_test: [M, K], test factors.
        continuous: whether the factors are quantities rather than labels.

    Raises:
        DeftError: for NaN codes, shapes that do not match, or continuous factors that are not numbers.

    Examples:
        >>> import numpy as np
        >>> from deft_lightning.metrics import sap
        >>> factors = np.indices((2, 2)).reshape(2, -1).T  # all combinations of two binary factors, [4, 2]
        >>> print(sap(factors, factors, factors, factors, continuous=True))  # each latent encodes one factor
        SAP 1.000
        >>> twice = np.hstack([factors, factors])  # two latents encode each factor
        >>> print(sap(twice, factors, twice, factors, continuous=True))
        SAP 0.000
    """
    with warnings.catch_warnings():
        if continuous:
            warnings.simplefilter("ignore")  # the factors are used as they are, not in bins
        split = as_split(codes, factors, codes_test, factors_test)
    kept = varied(split.factors)
    matrix = _squared_correlation(split.codes, _as_numbers(factors)) if continuous else _accuracy(split, kept)
    gaps = top_two_gap(matrix)[kept]
    return SAP(float(gaps.mean()) if len(gaps) else 0.0, matrix)


def _squared_correlation(codes: FloatArray, factors: FloatArray) -> FloatArray:
    codes, factors = codes - codes.mean(axis=0), factors - factors.mean(axis=0)
    covariance = codes.T @ factors / max(len(codes) - 1, 1)  # [D, K]
    variance, variance_factors = (np.sum(x**2, axis=0) / max(len(x) - 1, 1) for x in (codes, factors))
    product = np.outer(variance, variance_factors)
    alive = (variance > 1e-12)[:, None] & (variance_factors > 0)  # the reference implementation's threshold
    return np.divide(covariance**2, product, out=np.zeros_like(product), where=alive)


def _accuracy(split: Split, kept: NDArray[np.bool_]) -> FloatArray:
    matrix = np.zeros((split.codes.shape[1], len(kept)))
    pairs = [(j, k) for k in np.flatnonzero(kept) for j in range(len(matrix))]
    # Threads suffice, because the solver releases the interpreter lock.
    scores = Parallel(n_jobs=min(cpu_count(), max(len(pairs), 1)), backend="threading")(
        delayed(_pair_accuracy)(split, j, k) for j, k in pairs
    )
    for (j, k), score in zip(pairs, scores, strict=True):
        matrix[j, k] = score
    return matrix


def _pair_accuracy(split: Split, latent: int, factor: int) -> float:
    column = slice(latent, latent + 1)
    model = LinearSVC(C=0.01, class_weight="balanced").fit(split.codes[:, column], split.factors[:, factor])
    return float(model.score(split.codes_test[:, column], split.factors_test[:, factor]))


def _as_numbers(factors: Any) -> FloatArray:
    try:
        return as_codes(np.asarray(as_numpy(factors), dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise DeftError("factors are not numbers: use continuous=False for labels.") from error

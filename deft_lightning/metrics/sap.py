"""Separated Attribute Predictability: how much better the best latent predicts a factor than the second best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import Parallel, cpu_count, delayed
from numpy.typing import NDArray
from sklearn.svm import LinearSVC

from deft_lightning.common.errors import DeftError
from deft_lightning.metrics._inputs import Codes, as_codes, as_numpy
from deft_lightning.metrics._splits import Split, as_split, top_two_gap, varied

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class SAP:
    """`score`, the mean gap in [0, 1]; `matrix` [D, K], how well every latent predicts every factor."""

    score: float
    matrix: Matrix

    def __str__(self) -> str:
        return f"SAP {self.score:.3f}"


def sap(codes: Any, factors: Any, codes_test: Any, factors_test: Any, continuous: bool = False) -> SAP:
    """SAP (Kumar et al. 2018) of codes [N, D], [M, D] for factors [N, K], [M, K].

    Discrete factors: entry [j, k] is the accuracy on the test part of a linear support vector machine (C = 0.01,
    balanced classes) that predicts factor k from latent j alone. Continuous ones: the squared correlation of
    latent and factor over the training part; the test part is not looked at. The score is the mean over factors
    of the largest minus the second largest entry. In [0, 1]: near 0 for a random representation. 1 at most
    when one latent predicts each factor perfectly and no other one at all; the accuracy of chance bounds the
    discrete score of a perfect code by 1 - mean of 1/values. Factors that are constant in training are left out;
    a dead latent has correlation 0, or the accuracy of chance.

    Known weakness: a linear classifier on a single latent cannot tell the inner values of a factor apart, so a
    perfect code of an 8-valued factor has a low accuracy; and one factor in two latents equally scores 0.
    Raises `DeftError` for NaN codes or shapes that do not fit.
    """
    split = as_split(codes, factors, codes_test, factors_test)
    kept = varied(split.factors)
    matrix = _squared_correlation(split.codes, _as_numbers(factors)) if continuous else _accuracy(split, kept)
    gaps = top_two_gap(matrix)[kept]
    return SAP(float(gaps.mean()) if len(gaps) else 0.0, matrix)


def _squared_correlation(codes: Codes, factors: Matrix) -> Matrix:
    codes, factors = codes - codes.mean(axis=0), factors - factors.mean(axis=0)
    covariance = codes.T @ factors / max(len(codes) - 1, 1)  # [D, K]
    variance, variance_factors = (np.sum(x**2, axis=0) / max(len(x) - 1, 1) for x in (codes, factors))
    product = np.outer(variance, variance_factors)
    alive = (variance > 1e-12)[:, None] & (variance_factors > 0)  # the reference's bound on the variance
    return np.divide(covariance**2, product, out=np.zeros_like(product), where=alive)


def _accuracy(split: Split, kept: NDArray[np.bool_]) -> Matrix:
    matrix = np.zeros((split.codes.shape[1], len(kept)))
    pairs = [(j, k) for k in np.flatnonzero(kept) for j in range(len(matrix))]
    # Threads: the solver runs outside the interpreter's lock.
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


def _as_numbers(factors: Any) -> Matrix:
    try:
        return as_codes(np.asarray(as_numpy(factors), dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise DeftError("continuous=True needs factors that are numbers: leave it out for labels.") from error

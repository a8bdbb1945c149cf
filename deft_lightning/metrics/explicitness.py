"""Explicitness: can a linear classifier read the factors off the code?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from deft_lightning.metrics._splits import as_split, varied


@dataclass(frozen=True)
class Explicitness:
    """Mean area under the ROC curve on the training and on the test part, 0.5 (chance) to 1."""

    train: float
    test: float

    def __str__(self) -> str:
        return f"Explicitness {self.test:.3f} (train {self.train:.3f})"


def explicitness(codes: Any, factors: Any, codes_test: Any, factors_test: Any) -> Explicitness:
    """Explicitness (Ridgeway and Mozer 2018) of codes [N, D], [M, D] for factors [N, K], [M, K].

    A logistic regression predicts each factor from the codes, standardised by the training part's mean and
    deviation (a dead latent stays 0); the area under the ROC curve of each value against the others is averaged
    over values, then over factors. 1 when the factors can be read off linearly, 0.5 for a random representation.
    Factors that are constant in training, and values that a part lacks, are left out; 0.5 when nothing is left.

    Known weakness: any invertible linear mixture of perfect codes is perfect too, so it says nothing of
    disentanglement; and a code that has a factor in a nonlinear form counts as if it lacked it, in part.
    Raises `DeftError` for NaN codes or shapes that do not fit.
    """
    split = as_split(codes, factors, codes_test, factors_test)
    scaler = StandardScaler().fit(split.codes)
    train, test = scaler.transform(split.codes), scaler.transform(split.codes_test)
    areas: list[tuple[float, float]] = []
    for k in np.flatnonzero(varied(split.factors)):
        values, values_test = split.factors[:, k], split.factors_test[:, k]
        model = LogisticRegression(max_iter=1000).fit(train, values)
        areas.append(
            (
                _area(values, model.predict_proba(train), model.classes_),
                _area(values_test, model.predict_proba(test), model.classes_),
            )
        )
    return Explicitness(*(float(area) for area in np.mean(areas, axis=0))) if areas else Explicitness(0.5, 0.5)


def _area(values: NDArray[np.int64], probability: NDArray[np.float64], classes: NDArray[np.int64]) -> float:
    """Mean area under the curve over the classes that have both members and others in `values`."""
    members = values[:, None] == classes  # [N, classes]
    scored = members.any(axis=0) & ~members.all(axis=0)
    if not scored.any():
        return 0.5
    return float(np.mean([roc_auc_score(members[:, c], probability[:, c]) for c in np.flatnonzero(scored)]))

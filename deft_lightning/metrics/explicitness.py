"""Explicitness: can a linear classifier predict the factors from the codes?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from deft_lightning.metrics._inputs import FloatArray, IntArray
from deft_lightning.metrics._splits import as_split, varied


@dataclass(frozen=True)
class Explicitness:
    """Result of `explicitness`.

    Attributes:
        train: mean area under the ROC curve on the training table, 0.5 (chance) to 1.
        test: the same on the test table.
    """

    train: float
    test: float

    def __str__(self) -> str:
        return f"Explicitness {self.test:.3f} (train {self.train:.3f})"


def explicitness(codes: Any, factors: Any, codes_test: Any, factors_test: Any) -> Explicitness:
    """Explicitness (Ridgeway and Mozer 2018): can a linear classifier predict the factors from the codes?

    A logistic regression predicts each factor from the codes, which are standardised by mean and standard
    deviation of the training table (a dead latent stays 0). For each value of the factor the area under the
    ROC curve of this value against all others is computed; the score is the mean over values, then over
    factors. It is 1 if the factors can be predicted linearly, and 0.5 for a random representation. Factors
    that are constant in training, and values that a table lacks, are left out; the score is 0.5 if nothing
    is left.

    Known weakness: any invertible linear mixture of perfect codes is perfect too, so the score does not
    measure disentanglement. A factor that is encoded in a nonlinear form counts as partly missing.

    Args:
        codes: [N, D], training codes.
        factors: [N, K], training factors, any labels.
        codes_test: [M, D], test codes.
        factors_test: [M, K], test factors.

    Raises:
        DeftError: for NaN codes or shapes that do not match.

    Examples:
        >>> import numpy as np
        >>> from deft_lightning.metrics import explicitness
        >>> factors = np.indices((2, 2)).reshape(2, -1).T  # all combinations of two binary factors, [4, 2]
        >>> codes = factors @ [[1, 1], [1, -1]]  # an invertible linear mixture
        >>> print(explicitness(codes, factors, codes, factors))
        Explicitness 1.000 (train 1.000)
        >>> print(explicitness(0 * codes, factors, 0 * codes, factors))  # no information: chance
        Explicitness 0.500 (train 0.500)
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


def _area(values: IntArray, probability: FloatArray, classes: IntArray) -> float:
    """Mean area under the ROC curve over the classes that some, but not all, of `values` [N] belong to."""
    members = values[:, None] == classes  # [N, classes]
    scored = members.any(axis=0) & ~members.all(axis=0)
    if not scored.any():
        return 0.5
    return float(np.mean([roc_auc_score(members[:, c], probability[:, c]) for c in np.flatnonzero(scored)]))

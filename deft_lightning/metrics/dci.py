"""Disentanglement, completeness and informativeness, from how gradient-boosted trees use the latents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import Parallel, cpu_count, delayed
from numpy.typing import NDArray
from scipy.stats import entropy
from sklearn.ensemble import GradientBoostingClassifier

from deft_lightning.common.errors import DeftError
from deft_lightning.metrics._splits import as_split, varied

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class DCI:
    """Scores in [0, 1]; `importance` [D, K], each varied factor's column summing to 1; `estimator` made them."""

    disentanglement: float
    completeness: float
    informativeness_train: float
    informativeness_test: float
    importance: Matrix
    estimator: str

    def __str__(self) -> str:
        return (
            f"DCI ({self.estimator}) disentanglement {self.disentanglement:.3f}, completeness {self.completeness:.3f}, "
            f"informativeness {self.informativeness_test:.3f} (train {self.informativeness_train:.3f})"
        )


def dci(
    codes: Any, factors: Any, codes_test: Any, factors_test: Any, estimator: str = "reference", seed: int = 0
) -> DCI:
    """DCI (Eastwood and Williams 2018) of codes [N, D], [M, D] for factors [N, K], [M, K].

    Boosted trees predict each factor from the codes; R [D, K] is how much each latent contributes, columns
    summing to 1. Disentanglement: 1 - H(R_j. normalised) in base K, mean over latents weighted by their share
    of R: does a latent serve one factor? Completeness: 1 - H(R_.k normalised) in base D, mean over factors: does
    one latent serve a factor? Informativeness: mean accuracy. All in [0, 1]; identity codes get 1 in each. A
    representation without information gets near 0 in disentanglement and completeness, and the accuracy of chance.
    Dead latents weigh nothing, constant factors are left out (0 when none is left); with one factor
    disentanglement is 1, with one latent completeness is.

    `estimator="reference"` is scikit-learn's GradientBoostingClassifier() with its defaults (100 stages of trees
    of depth 3), one process a factor; R is its feature importance. `"fast"` is LightGBM with trees of the same
    number, depth and rate on histograms, R the total gain of the splits; it needs the extra `fast`, and both
    scores were within 0.05 of the reference's on every case of the tests.

    Known weakness: the scores hang on the estimator and its settings, so only those by the same one compare; and
    trees give noise latents some importance where a factor is hard to predict, more so with few points.
    Raises `DeftError` for NaN codes, shapes that do not fit, an unknown estimator or one that is not installed.
    """
    split = as_split(codes, factors, codes_test, factors_test)
    fresh, backend = _estimator(estimator, seed)
    kept = np.flatnonzero(varied(split.factors))
    if not len(kept):
        return DCI(0.0, 0.0, 0.0, 0.0, np.zeros((split.codes.shape[1], split.factors.shape[1])), estimator)
    models = Parallel(n_jobs=min(cpu_count(), len(kept)), backend=backend)(
        delayed(fresh().fit)(split.codes, split.factors[:, k]) for k in kept
    )
    importance = np.zeros((split.codes.shape[1], split.factors.shape[1]))
    for k, model in zip(kept, models, strict=True):
        share = np.abs(model.feature_importances_)
        importance[:, k] = share / share.sum() if share.sum() > 0 else 1 / len(share)
    train = [model.score(split.codes, split.factors[:, k]) for k, model in zip(kept, models, strict=True)]
    test = [model.score(split.codes_test, split.factors_test[:, k]) for k, model in zip(kept, models, strict=True)]
    scores = disentanglement(importance[:, kept]), completeness(importance[:, kept])
    return DCI(*scores, float(np.mean(train)), float(np.mean(test)), importance, estimator)


def disentanglement(importance: Matrix) -> float:
    """1 - entropy of each latent's row in base K, weighted by the rows' sums, of an importance matrix [D, K]."""
    return _concentration(importance)


def completeness(importance: Matrix) -> float:
    """1 - entropy of each factor's column in base D, weighted by the columns' sums, of a matrix [D, K]."""
    return _concentration(importance.T)


def _concentration(rows: Matrix) -> float:
    choices = rows.shape[1]
    if choices == 1:
        return 1.0
    # An entropy needs no zero rows; those weigh nothing.
    scores = 1.0 - entropy(rows + 1e-11, base=choices, axis=1)
    return float(np.average(scores, weights=rows.sum(axis=1)))


def _estimator(name: str, seed: int) -> tuple[Callable[[], Any], str]:
    """What makes an unfitted classifier, and how joblib runs several of them."""
    if name == "reference":
        return lambda: GradientBoostingClassifier(random_state=seed), "loky"
    if name != "fast":
        raise DeftError(f'dci has no estimator "{name}": choose "reference" or "fast".')
    try:
        from lightgbm import LGBMClassifier  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        raise DeftError(
            'dci with estimator="fast" needs LightGBM: pip install "deft-lightning[fast]", or choose "reference".'
        ) from error

    def fresh() -> Any:
        return LGBMClassifier(
            n_estimators=100,
            learning_rate=0.1,
            max_depth=3,
            num_leaves=8,
            importance_type="gain",
            random_state=seed,
            n_jobs=1,  # one thread a factor: the data are too small to share
            deterministic=True,
            force_col_wise=True,
            verbose=-1,
        )

    return fresh, "threading"

"""Disentanglement, completeness and informativeness (DCI), from the importance of each latent in boosted trees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import Parallel, cpu_count, delayed
from scipy.stats import entropy
from sklearn.ensemble import GradientBoostingClassifier

from deft_lightning.common.errors import DeftError
from deft_lightning.metrics._inputs import FloatArray
from deft_lightning.metrics._splits import as_split, varied


@dataclass(frozen=True)
class DCI:
    """Result of `dci`.

    Attributes:
        disentanglement: in [0, 1]; does each latent encode a single factor?
        completeness: in [0, 1]; is each factor encoded in a single latent?
        informativeness_train: mean accuracy on the training table.
        informativeness_test: mean accuracy on the test table.
        importance: [D, K], importance of each latent for each factor; the column of a factor that varies sums to 1.
        estimator: name of the estimator that gave these scores.
    """

    disentanglement: float
    completeness: float
    informativeness_train: float
    informativeness_test: float
    importance: FloatArray
    estimator: str

    def __str__(self) -> str:
        return (
            f"DCI ({self.estimator}) disentanglement {self.disentanglement:.3f}, completeness {self.completeness:.3f}, "
            f"informativeness {self.informativeness_test:.3f} (train {self.informativeness_train:.3f})"
        )


def dci(
    codes: Any, factors: Any, codes_test: Any, factors_test: Any, estimator: str = "reference", seed: int = 0
) -> DCI:
    """Disentanglement, completeness and informativeness (Eastwood and Williams 2018).

    Boosted trees predict each factor from the codes. R [D, K] is the importance of each latent for each
    factor, normalised so that each column sums to 1. With p_j = R_j. / sum_k R_jk and q_k = R_.k,

        disentanglement = mean_j (1 - H_K(p_j)), weighted by sum_k R_jk: does each latent encode one factor?
        completeness    = mean_k (1 - H_D(q_k)): is each factor encoded in one latent?
        informativeness = mean accuracy of the predictions

    where H_b is the entropy with logarithms in base b. All are in [0, 1], and 1 if the codes are the factors.
    A representation without information scores near 0 in disentanglement and completeness, and the accuracy
    of chance in informativeness. Dead latents have weight 0. Constant factors are left out; the scores are 0
    if none is left. With a single factor disentanglement is 1, with a single latent completeness is 1.

    Known weakness: the scores depend on the estimator and its settings, so compare only scores of the same
    estimator. Trees assign some importance to noise latents if a factor is hard to predict, more so with few
    points.

    Args:
        codes: [N, D], training codes.
        factors: [N, K], training factors, any labels.
        codes_test: [M, D], test codes.
        factors_test: [M, K], test factors.
        estimator: "reference" is scikit-learn's GradientBoostingClassifier with its defaults (100 stages of
            trees of depth 3), one process per factor; R is its feature importance. "fast" is LightGBM with
            histograms and trees of the same number, depth and learning rate; R is the total gain of the
            splits. It needs the extra `fast`. In all test cases its scores differ from the reference's by
            less than 0.05.
        seed: seed of the estimator.

    Raises:
        DeftError: for NaN codes, shapes that do not match, an unknown estimator, or one that is not installed.

    Examples:
        >>> import numpy as np
        >>> from deft_lightning.metrics import dci
        >>> factors = np.tile(np.indices((2, 2)).reshape(2, -1).T, (50, 1))  # two binary factors, [200, 2]
        >>> print(dci(factors, factors, factors, factors, estimator="fast"))  # each latent encodes one factor
        DCI (fast) disentanglement 1.000, completeness 1.000, informativeness 1.000 (train 1.000)
        >>> mixed = factors @ [[1, 1], [1, -1]]  # each latent mixes both factors
        >>> dci(mixed, factors, mixed, factors, estimator="fast").disentanglement < 0.1
        True
    """
    split = as_split(codes, factors, codes_test, factors_test)
    new_model, backend = _estimator(estimator, seed)
    kept = np.flatnonzero(varied(split.factors))
    if not len(kept):
        return DCI(0.0, 0.0, 0.0, 0.0, np.zeros((split.codes.shape[1], split.factors.shape[1])), estimator)
    models = Parallel(n_jobs=min(cpu_count(), len(kept)), backend=backend)(
        delayed(new_model().fit)(split.codes, split.factors[:, k]) for k in kept
    )
    importance = np.zeros((split.codes.shape[1], split.factors.shape[1]))
    for k, model in zip(kept, models, strict=True):
        share = np.abs(model.feature_importances_)
        importance[:, k] = share / share.sum() if share.sum() > 0 else 1 / len(share)
    train = [model.score(split.codes, split.factors[:, k]) for k, model in zip(kept, models, strict=True)]
    test = [model.score(split.codes_test, split.factors_test[:, k]) for k, model in zip(kept, models, strict=True)]
    scores = disentanglement(importance[:, kept]), completeness(importance[:, kept])
    return DCI(*scores, float(np.mean(train)), float(np.mean(test)), importance, estimator)


def disentanglement(importance: FloatArray) -> float:
    """Mean over latents of 1 - entropy in base K of the latent's row in `importance` [D, K], weighted by row sums."""
    return _concentration(importance)


def completeness(importance: FloatArray) -> float:
    """Mean over factors of 1 - entropy in base D of the factor's column in `importance` [D, K], by column sums."""
    return _concentration(importance.T)


def _concentration(rows: FloatArray) -> float:
    choices = rows.shape[1]
    if choices == 1:
        return 1.0
    # The entropy of a row of zeros is undefined; such a row has weight 0.
    scores = 1.0 - entropy(rows + 1e-11, base=choices, axis=1)
    return float(np.average(scores, weights=rows.sum(axis=1)))


def _estimator(name: str, seed: int) -> tuple[Callable[[], Any], str]:
    """A function that makes an unfitted classifier, and the joblib backend that fits several of them."""
    if name == "reference":
        return lambda: GradientBoostingClassifier(random_state=seed), "loky"
    if name != "fast":
        raise DeftError(f'estimator is "{name}": use "reference" or "fast".')
    try:
        from lightgbm import LGBMClassifier  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        raise DeftError(
            'estimator="fast" needs LightGBM: pip install "deft-lightning[fast]", or use estimator="reference".'
        ) from error

    def new_model() -> Any:
        return LGBMClassifier(
            n_estimators=100,
            learning_rate=0.1,
            max_depth=3,
            num_leaves=8,
            importance_type="gain",
            random_state=seed,
            n_jobs=1,  # one thread per factor: the data are too small for more
            deterministic=True,
            force_col_wise=True,
            verbose=-1,
        )

    return new_model, "threading"

"""InfoMEC: modularity, explicitness and compactness from information alone."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from deft_lightning.common.errors import DeftError
from deft_lightning.metrics._inputs import Codes, Factors, as_codes, as_factors
from deft_lightning.metrics.mutual_information import factor_entropy, mutual_information, normalise

Matrix = NDArray[np.float64]
Estimator = Literal["knn", "binned"]

ROUNDING = 1e-12  # what differences of entropies leave of no information at all
MIN_RANGE = 1 / 20  # of the widest latent's range: a narrower latent is inactive


@dataclass(frozen=True)
class InfoMEC:
    """`modularity`, `compactness`, `explicitness` in [0, 1]; `nmi` [D, K]; `active`, which latents counted [D]."""

    modularity: float
    compactness: float
    explicitness: float
    nmi: Matrix
    active: NDArray[np.bool_]
    estimator: Estimator

    def __str__(self) -> str:
        return (
            f"InfoM {self.modularity:.3f}, InfoE {self.explicitness:.3f}, InfoC {self.compactness:.3f} "
            f"({self.estimator} MI, {self.active.sum()} of {len(self.active)} latents active)"
        )


def infomec(
    codes: Any,
    factors: Any,
    mi: Estimator = "knn",
    bins: int = 20,
    neighbours: int = 10,
    continuous: bool = False,
    seed: int = 0,
) -> InfoMEC:
    """InfoM, InfoE and InfoC (Hsu et al. 2023, "Disentanglement via Latent Quantization", Sec. 4).

    With NMI_jk = I(z_j; v_k) / H(v_k) of codes [N, D] and factors [N, K], over the A latents whose range
    exceeds a twentieth of the widest latent's:

        InfoM = (mean_j max_k NMI_jk / sum_k NMI_jk - 1/K) / (1 - 1/K)
        InfoC = (mean_k max_j NMI_jk / sum_j NMI_jk - 1/A) / (1 - 1/A)
        InfoE = mean_k (H_V(v_k) - H_V(v_k | z)) / H_V(v_k)

    where H_V is the entropy that the best linear predictor leaves: class-balanced multinomial logistic
    regression without a penalty, or, for `continuous` factors (values that are quantities, in equal steps),
    linear regression, whose InfoE is the mean R^2. Fit and scored on the same points, as published.

    `mi="knn"` is the published estimator for continuous latents (Ross 2014; `seed` draws the tiny noise that
    breaks its ties), `"binned"` the histogram that the other scores use, and many times faster.

    All three are 1 for one latent a factor (InfoE where a linear predictor can tell the values apart). A
    random projection keeps InfoM and InfoC low; codes of pure noise keep InfoE near 0, and leave InfoM and
    InfoC undefined in all but the estimator's noise. Defined here where the paper does not say: factors that
    are constant count nowhere; latents or factors without any information are left out of their mean, which
    is 0 when none is left; a single factor, or a single active latent, has nothing to be mixed with and
    counts as 1. Known weakness: InfoM and InfoC are ratios, so the estimator's error on latents of noise that
    are wide enough to count weighs as much as real information: the histogram's bias makes them look mixed,
    and where nearest neighbours leave one entry of a latent above 0 it looks perfectly modular. Raises
    `DeftError` for NaN codes or shapes that do not fit.
    """
    if mi not in get_args(Estimator):
        raise DeftError(f"InfoMEC has no mutual information {mi!r}: choose knn or binned.")
    codes = as_codes(codes)
    factors = as_factors(factors, len(codes))
    entropy = factor_entropy(factors)
    information = mutual_information(codes, factors, bins) if mi == "binned" else _knn(codes, factors, neighbours, seed)
    matrix = normalise(information, entropy).clip(0.0, 1.0)  # nearest neighbours may estimate more than H(v_k)
    extent = np.ptp(codes, axis=0)
    active = extent > extent.max(initial=0.0) * MIN_RANGE
    pruned = matrix[np.ix_(active, entropy > 0)]
    return InfoMEC(
        concentration(pruned, axis=1),
        concentration(pruned, axis=0),
        _explicitness(codes[:, extent > 0], factors[:, entropy > 0], continuous),
        matrix,
        active,
        mi,
    )


def concentration(matrix: Matrix, axis: int) -> float:
    """Mean share of the largest entry along `axis`, rescaled so that equal entries give 0 and a single one 1."""
    total = matrix.sum(axis=axis)
    informed = total > ROUNDING
    if not informed.any():
        return 0.0
    width = matrix.shape[axis]
    if width == 1:
        return 1.0
    share = float((matrix.max(axis=axis)[informed] / total[informed]).mean())
    return (share - 1 / width) / (1 - 1 / width)


def _knn(codes: Codes, factors: Factors, neighbours: int, seed: int) -> Matrix:
    """I(z_j; v_k) in nats [D, K] by distances to the nearest neighbours; 0 for dead latents."""
    from sklearn.feature_selection import mutual_info_classif  # noqa: PLC0415  # slow to import

    information = np.zeros((codes.shape[1], factors.shape[1]))
    alive = np.ptp(codes, axis=0) > 0
    for k, values in enumerate(factors.T):
        repeated = np.bincount(values).max() > 1  # of values seen once each there are no neighbours
        if alive.any() and repeated and values.any():
            information[alive, k] = mutual_info_classif(
                codes[:, alive], values, discrete_features=False, n_neighbors=neighbours, random_state=seed
            )
    return information


def _explicitness(codes: Codes, factors: Factors, continuous: bool) -> float:
    """Mean over factors of the share of their entropy that a linear predictor removes."""
    from sklearn.linear_model import LinearRegression  # noqa: PLC0415  # slow to import

    if not codes.size or not factors.size:
        return 0.0
    standard = (codes - codes.mean(axis=0)) / codes.std(axis=0)
    if continuous:
        scores = [LinearRegression().fit(standard, values).score(standard, values) for values in factors.T]
    else:
        scores = [1 - _conditional_entropy(standard, values) / np.log(values.max() + 1) for values in factors.T]
    return float(np.clip(np.mean(scores), 0.0, 1.0))


def _conditional_entropy(codes: Codes, values: NDArray[np.int64]) -> float:
    """Cross entropy in nats that logistic regression leaves; without codes it would be log(number of values)."""
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415  # slow to import
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
    from sklearn.metrics import log_loss  # noqa: PLC0415

    model = LogisticRegression(C=np.inf, class_weight="balanced", max_iter=100)
    with warnings.catch_warnings():
        # Values that a line separates have no finite optimum: the loss nears 0 and stops at 100 steps, as published.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return float(log_loss(values, model.fit(codes, values).predict_proba(codes)))

"""InfoMEC: modularity, explicitness and compactness, based on information."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from deft_lightning.common.errors import DeftError
from deft_lightning.metrics._inputs import FloatArray, IntArray, as_codes, as_factors
from deft_lightning.metrics.mutual_information import factor_entropy, mutual_information, normalise

Estimator = Literal["knn", "binned"]

ROUNDING = 1e-12  # information below this is the rounding error of a difference of entropies
MIN_RANGE = 1 / 20  # a latent whose range is below this share of the widest latent's is inactive


@dataclass(frozen=True)
class InfoMEC:
    """Result of `infomec`.

    Attributes:
        modularity: InfoM in [0, 1]; does each latent encode a single factor?
        compactness: InfoC in [0, 1]; is each factor encoded in a single latent?
        explicitness: InfoE in [0, 1]; can a linear predictor read the factors off the codes?
        nmi: [D, K], normalised mutual information of each latent and factor.
        active: [D], mask of the latents that count.
        estimator: the estimator of mutual information that was used.
    """

    modularity: float
    compactness: float
    explicitness: float
    nmi: FloatArray
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

    With NMI_jk = I(z_j; v_k) / H(v_k), over the A latents whose range exceeds a twentieth of the widest
    latent's range,

        InfoM = (mean_j max_k NMI_jk / sum_k NMI_jk - 1/K) / (1 - 1/K)
        InfoC = (mean_k max_j NMI_jk / sum_j NMI_jk - 1/A) / (1 - 1/A)
        InfoE = mean_k (H_V(v_k) - H_V(v_k | z)) / H_V(v_k)

    where H_V is the entropy that remains under the best linear predictor: class-balanced multinomial logistic
    regression without a penalty. For `continuous` factors the predictor is linear regression, and InfoE is the
    mean R^2. The predictor is fit and scored on the same points, as published.

    All three are 1 if each latent encodes one factor (InfoE only if a linear predictor can separate the
    values). For a random projection InfoM and InfoC are low. For pure noise InfoE is near 0, while InfoM and
    InfoC reflect only the noise of the estimator.

    The paper leaves some cases open. Here constant factors are left out everywhere. Latents or factors
    without any information are left out of their mean, which is 0 if none is left. With a single factor InfoM
    is 1, and with a single active latent InfoC is 1.

    Known weakness: InfoM and InfoC are ratios. If a noise latent has a range wide enough to count, the
    estimator's error on it weighs as much as real information: the bias of the histogram makes the latent
    look mixed, and if nearest neighbours leave a single entry above 0, it looks perfectly modular.

    Args:
        codes: [N, D].
        factors: [N, K]: any labels, or values in equal steps if `continuous`.
        mi: estimator of mutual information. "knn" is the published one for continuous latents (Ross 2014).
            "binned" is the histogram that the other metrics use, and many times faster.
        bins: number of bins per latent of "binned".
        neighbours: number of nearest neighbours of "knn".
        continuous: whether the factors are quantities rather than labels.
        seed: seed of the small noise by which "knn" breaks ties.

    Raises:
        DeftError: for NaN codes, shapes that do not match, or an unknown `mi`.

    Examples:
        >>> import numpy as np
        >>> from deft_lightning.metrics import infomec
        >>> factors = np.tile(np.indices((2, 2)).reshape(2, -1).T, (5, 1))  # two binary factors, [20, 2]
        >>> print(infomec(factors, factors, mi="binned"))  # each latent encodes one factor
        InfoM 1.000, InfoE 1.000, InfoC 1.000 (binned MI, 2 of 2 latents active)
        >>> print(infomec(factors @ [[1, 1], [1, -1]], factors, mi="binned"))  # a linear mixture
        InfoM 0.000, InfoE 1.000, InfoC 0.000 (binned MI, 2 of 2 latents active)
    """
    if mi not in get_args(Estimator):
        raise DeftError(f'mi is {mi!r}: use "knn" or "binned".')
    codes = as_codes(codes)
    factors = as_factors(factors, len(codes))
    entropy = factor_entropy(factors)
    information = mutual_information(codes, factors, bins) if mi == "binned" else _knn(codes, factors, neighbours, seed)
    matrix = normalise(information, entropy).clip(0.0, 1.0)  # the nearest-neighbour estimate may exceed H(v_k)
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


def concentration(matrix: FloatArray, axis: int) -> float:
    """Mean share of the largest entry along `axis`, rescaled: 0 if all entries are equal, 1 if one is not 0."""
    total = matrix.sum(axis=axis)
    informed = total > ROUNDING
    if not informed.any():
        return 0.0
    width = matrix.shape[axis]
    if width == 1:
        return 1.0
    share = float((matrix.max(axis=axis)[informed] / total[informed]).mean())
    return (share - 1 / width) / (1 - 1 / width)


def _knn(codes: FloatArray, factors: IntArray, neighbours: int, seed: int) -> FloatArray:
    """I(z_j; v_k) in nats [D, K], estimated from distances to the nearest neighbours; 0 for dead latents."""
    from sklearn.feature_selection import mutual_info_classif  # noqa: PLC0415  # slow to import

    information = np.zeros((codes.shape[1], factors.shape[1]))
    alive = np.ptp(codes, axis=0) > 0
    for k, values in enumerate(factors.T):
        repeated = np.bincount(values).max() > 1  # a value that occurs once has no neighbours
        if alive.any() and repeated and values.any():
            information[alive, k] = mutual_info_classif(
                codes[:, alive], values, discrete_features=False, n_neighbors=neighbours, random_state=seed
            )
    return information


def _explicitness(codes: FloatArray, factors: IntArray, continuous: bool) -> float:
    """InfoE: mean over factors of the share of entropy that a linear predictor removes."""
    from sklearn.linear_model import LinearRegression  # noqa: PLC0415  # slow to import

    if not codes.size or not factors.size:
        return 0.0
    standard = (codes - codes.mean(axis=0)) / codes.std(axis=0)
    if continuous:
        scores = [LinearRegression().fit(standard, values).score(standard, values) for values in factors.T]
    else:
        scores = [1 - _conditional_entropy(standard, values) / np.log(values.max() + 1) for values in factors.T]
    return float(np.clip(np.mean(scores), 0.0, 1.0))


def _conditional_entropy(codes: FloatArray, values: IntArray) -> float:
    """Cross entropy in nats of logistic regression; log(number of values) if the codes carry no information."""
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415  # slow to import
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
    from sklearn.metrics import log_loss  # noqa: PLC0415

    model = LogisticRegression(C=np.inf, class_weight="balanced", max_iter=100)
    with warnings.catch_warnings():
        # If the values are linearly separable, the loss has no minimum: stop after 100 steps, as published.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return float(log_loss(values, model.fit(codes, values).predict_proba(codes)))

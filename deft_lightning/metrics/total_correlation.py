"""Dependence among the latents: their covariance, and the total correlation of a Gaussian with that covariance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from deft_lightning.metrics._inputs import FloatArray, as_codes

# An eigenvalue of the correlation matrix below this is 0 up to the float32 rounding of the codes.
FLOOR = 1e-10


@dataclass(frozen=True)
class TotalCorrelation:
    """Result of `total_correlation`.

    Attributes:
        score: total correlation in nats; a lower bound if `degenerate` is above 0.
        degenerate: number of directions in which the latents do not vary independently.
    """

    score: float
    degenerate: int

    def __str__(self) -> str:
        bound = f" at least ({self.degenerate} degenerate directions)" if self.degenerate else ""
        return f"TC {self.score:.3f} nats{bound}"


def covariance(codes: Any) -> FloatArray:
    """Covariance [D, D] of codes [N, D], with divisor N. The entries of a dead latent are 0.

    Raises `DeftError` for NaN codes or codes that are not a matrix.

    Examples:
        >>> from deft_lightning.metrics import covariance
        >>> covariance([[1, 2, 5], [-1, -2, 5]])  # the third latent is dead
        array([[1., 2., 0.],
               [2., 4., 0.],
               [0., 0., 0.]])
    """
    codes = as_codes(codes)
    centred = np.where(np.ptp(codes, axis=0) > 0, codes - codes.mean(axis=0), 0.0)
    return centred.T @ centred / len(codes)


def total_correlation(codes: Any) -> TotalCorrelation:
    """Total correlation of the codes under a Gaussian fit (Watanabe 1960), in nats.

        TC = KL(q(z) || prod_j q(z_j)) = (sum_j log var_j - log det cov) / 2

    where q is the Gaussian with the covariance of the codes. Locatello et al. (2019) call it "Gaussian total
    correlation". It is 0 for uncorrelated latents, as in a perfect representation of independent factors, and
    has no upper bound. N independent points of D latents score about D(D - 1) / 4N.

    Dead latents are dropped. Latents that determine each other (a duplicate, or no more points than latents)
    have infinite total correlation. Each such direction counts -log(1e-10) / 2 = 11.5 nats instead; the score
    is then a lower bound, and `degenerate` is the number of these directions.

    Known weakness: it measures linear dependence only. Independent latents may still each mix many factors:
    any rotation of whitened codes scores 0.

    Args:
        codes: [N, D].

    Raises:
        DeftError: for NaN codes or codes that are not a matrix.

    Examples:
        >>> import numpy as np
        >>> from deft_lightning.metrics import total_correlation
        >>> codes = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        >>> total_correlation(codes).score < 1e-9  # uncorrelated
        True
        >>> print(total_correlation(codes @ [[1, 0.6], [0, 0.8]]))  # correlation 0.6: -log(1 - 0.6^2) / 2
        TC 0.223 nats
    """
    codes = as_codes(codes)
    codes = codes[:, np.ptp(codes, axis=0) > 0]
    if codes.shape[1] < 2:
        return TotalCorrelation(0.0, 0)
    standard = (codes - codes.mean(axis=0)) / codes.std(axis=0)
    # det(correlation) = det(covariance) / product of the variances
    eigenvalues = np.linalg.eigvalsh(standard.T @ standard / len(codes))
    score = -0.5 * np.log(np.maximum(eigenvalues, FLOOR)).sum()
    return TotalCorrelation(max(float(score), 0.0), int((eigenvalues < FLOOR).sum()))

"""Dependence among the latents: their covariance, and the total correlation of a Gaussian that has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deft_lightning.metrics._inputs import as_codes

# Eigenvalues of the correlation matrix below it are dependence to within float32's rounding of the codes.
FLOOR = 1e-10


@dataclass(frozen=True)
class TotalCorrelation:
    """`score` in nats; `degenerate`, how many directions of the live latents have no variance of their own."""

    score: float
    degenerate: int

    def __str__(self) -> str:
        bound = f", at least: {self.degenerate} directions are degenerate" if self.degenerate else ""
        return f"TC {self.score:.3f} nats{bound}"


def covariance(codes: Any) -> NDArray[np.float64]:
    """Covariance [D, D] of codes [N, D], divided by N; a dead latent has zeros. Raises as `active_units` does."""
    codes = as_codes(codes)
    centred = np.where(np.ptp(codes, axis=0) > 0, codes - codes.mean(axis=0), 0.0)
    return centred.T @ centred / len(codes)


def total_correlation(codes: Any) -> TotalCorrelation:
    """Total correlation of codes [N, D] under a Gaussian fit: (sum_j log var_j - log det cov) / 2, in nats.

    KL(q(z) || prod_j q(z_j)) of the Gaussian with the codes' covariance (Watanabe 1960; the "Gaussian total
    correlation" of Locatello et al. 2019). 0 for uncorrelated latents, as in a perfect representation of
    independent factors, and not bounded above; N independent points of D latents give about D(D - 1) / 4N.

    Dead latents are dropped: they depend on nothing. Latents that determine each other (a duplicate, or no
    more points than latents) have infinite total correlation; every such direction counts
    -log(1e-10) / 2 = 11.5 nats instead, the score is then a lower bound, and `degenerate` counts them. Known
    weakness: it sees linear dependence alone, and independent latents may still each mix many factors (any
    rotation of whitened codes scores 0). Raises `DeftError` for NaN codes or shapes that do not fit.
    """
    codes = as_codes(codes)
    codes = codes[:, np.ptp(codes, axis=0) > 0]
    if codes.shape[1] < 2:
        return TotalCorrelation(0.0, 0)
    standard = (codes - codes.mean(axis=0)) / codes.std(axis=0)
    eigenvalues = np.linalg.eigvalsh(standard.T @ standard / len(codes))  # det corr = det cov / prod var
    score = -0.5 * np.log(np.maximum(eigenvalues, FLOOR)).sum()
    return TotalCorrelation(max(float(score), 0.0), int((eigenvalues < FLOOR).sum()))

"""Interventional Robustness Score: does a latent stay put while all factors but its own change?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deft_lightning.common.errors import DeftError
from deft_lightning.metrics._inputs import as_codes, as_factors
from deft_lightning.metrics._splits import varied


@dataclass(frozen=True)
class IRS:
    """`score`, the mean over latents weighted by their range, in [0, 1]; `per_code` [D], 0 for a dead latent."""

    score: float
    per_code: NDArray[np.float64]

    def __str__(self) -> str:
        return f"IRS {self.score:.3f} (per latent {', '.join(f'{value:.3f}' for value in self.per_code)})"


def irs(codes: Any, factors: Any, quantile: float = 0.99) -> IRS:
    """IRS (Suter et al. 2019) of latents [N, D] and factors [N, K].

    For a factor k, the points are split by its value; within each part, the `quantile` of the latent's distance
    from the part's mean, averaged over parts and divided by the latent's largest distance from its overall mean,
    is how far the other factors move it. A latent scores 1 minus that for its best factor, and the score is the
    mean weighted by the largest distances. In [0, 1]: 1 when each latent is a function of one factor. Dead
    latents weigh nothing, constant factors are left out; 0 when nothing is left.

    Known weakness: latents of pure noise do not score 0, but 1 minus the ratio of the quantile to the largest
    distance, 0.3 to 0.4 for 10,000 points of Gaussian noise; a factor in many latents, or unknown to all, costs
    nothing; and the largest distance hangs on one point.
    Raises `DeftError` for NaN codes, shapes that do not fit or a quantile outside (0, 1].
    """
    codes = as_codes(codes)
    factors = as_factors(factors, len(codes))
    if not 0 < quantile <= 1:
        raise DeftError(f"quantile is {quantile}: give a number above 0 and at most 1.")
    alive = codes.min(axis=0) < codes.max(axis=0)  # [D]
    scores = np.zeros(len(alive))
    kept = varied(factors)
    if not alive.any() or not kept.any():
        return IRS(0.0, scores)
    codes = codes[:, alive]
    largest = np.abs(codes - codes.mean(axis=0)).max(axis=0)
    moved = []
    for values in factors.T[kept]:
        parts = [codes[values == value] for value in np.unique(values)]
        distances = [np.quantile(np.abs(part - part.mean(axis=0)), quantile, axis=0) for part in parts]
        moved.append(np.mean(distances, axis=0) / largest)
    scores[alive] = 1.0 - np.min(moved, axis=0)
    return IRS(float(np.average(scores[alive], weights=largest)), scores)

"""Interventional Robustness Score: does a latent stay constant while all factors but one change?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from deft_lightning.common.errors import DeftError
from deft_lightning.metrics._inputs import FloatArray, as_codes, as_factors
from deft_lightning.metrics._splits import varied


@dataclass(frozen=True)
class IRS:
    """Result of `irs`.

    Attributes:
        score: mean over the latents, weighted by each latent's largest distance from its mean, in [0, 1].
        per_code: [D], score of each latent; 0 for a dead latent.
    """

    score: float
    per_code: FloatArray

    def __str__(self) -> str:
        return f"IRS {self.score:.3f} (per latent {', '.join(f'{value:.3f}' for value in self.per_code)})"


def irs(codes: Any, factors: Any, quantile: float = 0.99) -> IRS:
    """Interventional Robustness Score (Suter et al. 2019): is each latent robust to changes of other factors?

    For factor k and latent j, the points are split by the value of the factor. The effect of all other
    factors on the latent is

        e_jk = mean over values of quantile(|z_j - mean of z_j for that value|) / max |z_j - mean of z_j|

    A latent scores

        1 - min_k e_jk

    and the score is the mean over latents, weighted by their largest distance max |z_j - mean of z_j|. It is
    in [0, 1], and 1 if each latent is a function of one factor. Dead latents have weight 0, constant factors
    are left out, and the score is 0 if nothing is left.

    Known weakness: latents of pure noise do not score 0, but 1 minus the ratio of the quantile to the largest
    distance: 0.3 to 0.4 for 10,000 points of Gaussian noise. A factor that many latents encode, or none, does
    not lower the score. The largest distance depends on a single point.

    Args:
        codes: [N, D].
        factors: [N, K], any labels.
        quantile: quantile of the distances from the mean, in (0, 1].

    Raises:
        DeftError: for NaN codes, shapes that do not match, or a quantile outside (0, 1].

    Examples:
        >>> import numpy as np
        >>> from deft_lightning.metrics import irs
        >>> factors = np.indices((2, 2)).reshape(2, -1).T  # all combinations of two binary factors, [4, 2]
        >>> print(irs(factors, factors))  # each latent is a function of one factor
        IRS 1.000 (per latent 1.000, 1.000)
        >>> print(irs(factors @ [[1, 1], [1, -1]], factors))  # each latent mixes both factors
        IRS 0.500 (per latent 0.500, 0.500)
    """
    codes = as_codes(codes)
    factors = as_factors(factors, len(codes))
    if not 0 < quantile <= 1:
        raise DeftError(f"quantile is {quantile}: use a number above 0 and at most 1.")
    alive = codes.min(axis=0) < codes.max(axis=0)  # [D]
    scores = np.zeros(len(alive))
    kept = varied(factors)
    if not alive.any() or not kept.any():
        return IRS(0.0, scores)
    codes = codes[:, alive]
    largest = np.abs(codes - codes.mean(axis=0)).max(axis=0)
    effects = []
    for values in factors.T[kept]:
        parts = [codes[values == value] for value in np.unique(values)]
        distances = [np.quantile(np.abs(part - part.mean(axis=0)), quantile, axis=0) for part in parts]
        effects.append(np.mean(distances, axis=0) / largest)
    scores[alive] = 1.0 - np.min(effects, axis=0)
    return IRS(float(np.average(scores[alive], weights=largest)), scores)

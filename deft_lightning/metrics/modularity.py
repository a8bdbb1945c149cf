"""Modularity: does each latent carry information about a single factor?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from deft_lightning.metrics._inputs import FloatArray
from deft_lightning.metrics.mutual_information import factor_entropy, mutual_information


@dataclass(frozen=True)
class Modularity:
    """Result of `modularity`.

    Attributes:
        score: mean over the latents, in [0, 1].
        per_code: [D], modularity of each latent.
    """

    score: float
    per_code: FloatArray

    def __str__(self) -> str:
        return f"Modularity {self.score:.3f} (per latent {', '.join(f'{value:.3f}' for value in self.per_code)})"


def modularity(codes: Any, factors: Any, bins: int = 20) -> Modularity:
    """Modularity (Ridgeway and Mozer 2018): does each latent carry information about a single factor?

    Let I_jk be the mutual information of latent j and factor k, and m the factor with the largest I_jk. The
    modularity of latent j is

        1 - sum_{k != m} I_jk^2 / (I_jm^2 (K - 1))

    and the score is the mean over latents, in [0, 1]. It is 1 if each latent carries information about a
    single factor, no matter which. A random representation does not score 0: noise scores about 0.68 on the
    five factors of dSprites. A latent without any information, such as a dead latent, counts as 0. Factors
    that are constant in the sample are left out; if one factor is left, every informative latent scores 1.

    Known weakness: only ratios count. A latent of pure noise has a few thousandths of a nat from the finite
    sample (see `mutual_information`) and weighs as much as an informative latent. Duplicated latents, and
    factors that no latent encodes, do not lower the score.

    Args:
        codes: [N, D].
        factors: [N, K], any labels.
        bins: number of bins per latent, of equal width.

    Raises:
        DeftError: as `mutual_information` does.

    Examples:
        >>> import numpy as np
        >>> from deft_lightning.metrics import modularity
        >>> factors = np.indices((4, 4)).reshape(2, -1).T  # all combinations of 4 and 4 values, [16, 2]
        >>> codes = np.column_stack([factors[:, 0], factors.sum(axis=1)])  # one factor; both factors equally
        >>> print(modularity(codes, factors))
        Modularity 0.500 (per latent 1.000, 0.000)
    """
    return modularity_of(mutual_information(codes, factors, bins), factor_entropy(factors))


def modularity_of(information: FloatArray, entropy: FloatArray) -> Modularity:
    """Modularity from mutual information [D, K] in nats and the factors' entropies [K]."""
    squares = information[:, entropy > 0] ** 2
    others = squares.shape[1] - 1
    if others < 0:
        return Modularity(0.0, np.zeros(len(squares)))
    largest = squares.max(axis=1)
    rest = squares.sum(axis=1) - largest
    shared = np.divide(rest, largest * max(others, 1), out=np.ones_like(rest), where=largest > 0)
    scores = 1.0 - shared
    return Modularity(float(scores.mean()), scores)

"""Modularity: does every latent tell about one factor alone?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from deft_lightning.metrics.mutual_information import Matrix, factor_entropy, mutual_information


@dataclass(frozen=True)
class Modularity:
    """`score`, the mean over latents in [0, 1]; `per_code`, that of every latent [D]."""

    score: float
    per_code: Matrix

    def __str__(self) -> str:
        return f"Modularity {self.score:.3f} (per latent {', '.join(f'{value:.3f}' for value in self.per_code)})"


def modularity(codes: Any, factors: Any, bins: int = 20) -> Modularity:
    """Modularity (Ridgeway and Mozer 2018) of latents [N, D] and factors [N, K], from their mutual information.

    A latent j with information I_jk about factor k, most about factor m, scores
    1 - sum_{k != m} I_jk^2 / (I_jm^2 (K - 1)); the score is the mean over latents, in [0, 1]. 1 when every
    latent tells about one factor alone, whichever. A random representation does not get 0: noise codes of the
    five factors of dSprites get about 0.68. A latent without any information, a dead one above all, counts as 0;
    factors that are constant in the sample are left out, and with one left every informative latent scores 1.

    Known weakness: it looks at ratios alone, so a latent of pure noise, whose few thousandths of a nat come from
    the finite sample, counts like an informative one (see `mutual_information`); and duplicated latents, or
    factors that no latent knows, cost nothing. Raises as `mutual_information` does.
    """
    return modularity_of(mutual_information(codes, factors, bins), factor_entropy(factors))


def modularity_of(information: Matrix, entropy: Matrix) -> Modularity:
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

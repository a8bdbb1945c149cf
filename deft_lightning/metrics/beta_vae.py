"""The beta-VAE score: the latents that differ least within pairs tell which factor the pairs share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from deft_lightning.common.errors import DeftError
from deft_lightning.metrics._inputs import as_numpy
from deft_lightning.metrics.fixed_factor import Encoder, check_counts, draw_pairs, encoded


@dataclass(frozen=True)
class BetaVAEScore:
    """Accuracy in [0, 1] of the linear classifier on its training batches and on fresh ones."""

    train: float
    eval: float

    def __str__(self) -> str:
        return f"beta-VAE score {self.eval:.3f} (train {self.train:.3f})"


def beta_vae_score(
    encode: Encoder,
    sizes: Sequence[int],
    seed: int = 0,
    batch_size: int = 64,
    num_train: int = 10_000,
    num_eval: int = 5_000,
) -> BetaVAEScore:
    """beta-VAE score (Higgins et al. 2017) of `encode`, which maps factor values [N, K] to codes [N, D].

    A batch is `batch_size` pairs of points, uniform over the grid of `sizes` [K] but that the two of a pair agree
    in one factor; its feature is the mean absolute difference of their codes [D]. A logistic regression, fit on
    `num_train` batches, tells the shared factor; the score is its accuracy on them and on `num_eval` fresh ones.
    1 for a perfect representation, about 1/K for one without information. Factors with one value are never the
    shared one; a dead latent is a feature that is always 0.

    Known weakness: the classifier sees all latents at once, so entangled codes, a rotation for one, often score
    near 1 as well; it cannot see that a factor is missing when the K - 1 others are found.
    `encode` is called with some thousands of points at a time. Raises `DeftError` for NaN codes, codes that are
    not [N, D], sizes without a choice, and counts too small to score.
    """
    check_counts(min(num_train, num_eval), batch_size)
    features, fixed = [], []
    for codes, factors in encoded(encode, draw_pairs, sizes, num_train + num_eval, batch_size, seed):
        features.append(_differences(codes))
        fixed.append(factors)
    return _score(np.concatenate(features), np.concatenate(fixed), num_train)


def beta_vae_of_batches(codes: Any, fixed: Any, num_train: int) -> BetaVAEScore:
    """The score of `beta_vae_score` from codes [count, batch_size, 2, D] at hand, pairs agreeing in `fixed` [count].

    The first `num_train` batches train the classifier, the others evaluate it. Raises `DeftError` for NaN codes
    or shapes that do not fit.
    """
    codes, fixed = np.asarray(as_numpy(codes)), np.asarray(as_numpy(fixed))
    if codes.ndim != 4 or codes.shape[2] != 2 or fixed.shape != codes.shape[:1]:
        raise DeftError(
            f"codes have shape {list(codes.shape)} and shared factors {list(fixed.shape)}: give "
            "[count, batch_size, 2, D] and [count]."
        )
    return _score(_differences(codes), fixed, num_train)


def _differences(codes: NDArray[Any]) -> NDArray[np.float64]:
    """Mean absolute difference [count, D] within the pairs of codes [count, batch_size, 2, D]."""
    return np.abs(codes[:, :, 0] - codes[:, :, 1]).mean(axis=1, dtype=np.float64)


def _score(features: NDArray[np.float64], fixed: NDArray[np.int64], num_train: int) -> BetaVAEScore:
    if not 0 < num_train < len(features):
        raise DeftError(f"num_train is {num_train} of {len(features)} batches: leave some to evaluate on.")
    if not np.isfinite(features).all():
        raise DeftError("codes hold NaN or infinite values: no score is defined on them.")
    known, asked = fixed[:num_train], fixed[num_train:]
    if (known == known[0]).all():  # nothing to tell apart
        return BetaVAEScore(1.0, float((asked == known[0]).mean()))
    model = LogisticRegression(max_iter=1000).fit(features[:num_train], known)
    return BetaVAEScore(
        float(model.score(features[:num_train], known)), float(model.score(features[num_train:], asked))
    )

"""The beta-VAE score: do the differences of codes within pairs tell which factor the pairs share?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from deft_lightning.common.errors import DeftError
from deft_lightning.metrics._inputs import FloatArray, IntArray, as_numpy
from deft_lightning.metrics.fixed_factor import Encoder, check_counts, draw_pairs, encoded


@dataclass(frozen=True)
class BetaVAEScore:
    """Result of `beta_vae_score`.

    Attributes:
        train: accuracy in [0, 1] of the linear classifier on its training batches.
        eval: accuracy in [0, 1] on new batches; this is the score to quote.
    """

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
    """beta-VAE score (Higgins et al. 2017): does a linear classifier tell which factor pairs of points share?

    A batch consists of pairs of points (a, b) that share one factor; everything else is uniform over the grid
    of factor values. The feature of a batch is

        mean over pairs of |z(a) - z(b)|, [D]

    A logistic regression predicts the shared factor from the feature. It is fit on `num_train` batches; the
    score is its accuracy on `num_eval` new ones.

    It is 1 for a perfect representation, and about 1/K for one without information. Factors with one value are
    never shared. The feature of a dead latent is always 0.

    Known weakness: the classifier uses all latents at once, so entangled codes, such as a rotation, often score
    near 1 too. The score does not show that one factor is missing if the other K - 1 are encoded.

    Args:
        encode: function from factor values [N, K] to codes [N, D]; it is called with some thousands of points.
        sizes: [K], number of values of each factor.
        seed: seed of the batches.
        batch_size: pairs per batch.
        num_train: number of batches that train the classifier.
        num_eval: number of batches that evaluate it.

    Raises:
        DeftError: for NaN codes, codes that are not [N, D], sizes without a factor that varies, and counts
            that are too small.

    Examples:
        >>> from deft_lightning.metrics import beta_vae_score
        >>> few = {"num_train": 200, "num_eval": 100}
        >>> print(beta_vae_score(lambda factors: factors, [3, 4], **few))  # each latent encodes one factor
        beta-VAE score 1.000 (train 1.000)
        >>> beta_vae_score(lambda factors: 0.0 * factors, [3, 4], **few).eval < 0.7  # chance is 1/2
        True
    """
    check_counts(min(num_train, num_eval), batch_size)
    features, fixed = [], []
    for codes, factors in encoded(encode, draw_pairs, sizes, num_train + num_eval, batch_size, seed):
        features.append(_differences(codes))
        fixed.append(factors)
    return _score(np.concatenate(features), np.concatenate(fixed), num_train)


def beta_vae_of_batches(codes: Any, fixed: Any, num_train: int) -> BetaVAEScore:
    """The beta-VAE score of batches that are already encoded; see `beta_vae_score`.

    Args:
        codes: [count, batch_size, 2, D], codes of pairs that share one factor.
        fixed: [count], the shared factor of each batch.
        num_train: number of batches, from the first, that train the classifier; the others evaluate it.

    Raises:
        DeftError: for NaN codes or shapes that do not match.

    Examples:
        >>> import numpy as np
        >>> from deft_lightning.metrics import beta_vae_of_batches, pairs_of_rows
        >>> codes = factors = np.tile(np.indices((2, 3)).reshape(2, -1).T, (4, 1))  # [24, 2]
        >>> rows, shared = pairs_of_rows(factors, count=300, batch_size=16, seed=0)
        >>> print(beta_vae_of_batches(codes[rows], shared, num_train=200))
        beta-VAE score 1.000 (train 1.000)
    """
    codes, fixed = np.asarray(as_numpy(codes)), np.asarray(as_numpy(fixed))
    if codes.ndim != 4 or codes.shape[2] != 2 or fixed.shape != codes.shape[:1]:
        raise DeftError(
            f"codes have shape {list(codes.shape)} and shared factors {list(fixed.shape)}: pass "
            "[count, batch_size, 2, D] and [count]."
        )
    return _score(_differences(codes), fixed, num_train)


def _differences(codes: NDArray[Any]) -> FloatArray:
    """Mean absolute difference [count, D] within the pairs of codes [count, batch_size, 2, D]."""
    return np.abs(codes[:, :, 0] - codes[:, :, 1]).mean(axis=1, dtype=np.float64)


def _score(features: FloatArray, fixed: IntArray, num_train: int) -> BetaVAEScore:
    if not 0 < num_train < len(features):
        raise DeftError(
            f"num_train is {num_train} of {len(features)} batches: leave at least 1 to train on and 1 to evaluate."
        )
    if not np.isfinite(features).all():
        raise DeftError("codes contain NaN or infinite values: remove those points, or check the encoder.")
    train, evaluation = fixed[:num_train], fixed[num_train:]
    if (train == train[0]).all():  # a single class: the classifier always predicts it
        return BetaVAEScore(1.0, float((evaluation == train[0]).mean()))
    model = LogisticRegression(max_iter=1000).fit(features[:num_train], train)
    return BetaVAEScore(
        float(model.score(features[:num_train], train)), float(model.score(features[num_train:], evaluation))
    )

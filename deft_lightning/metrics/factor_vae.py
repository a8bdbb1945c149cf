"""The FactorVAE score: does the latent that varies least tell which factor is fixed?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deft_lightning.common.errors import DeftError
from deft_lightning.metrics._inputs import FloatArray, IntArray, as_codes, as_numpy
from deft_lightning.metrics.fixed_factor import CHUNK, Encoder, check_counts, draw_batches, encode_points, encoded


@dataclass(frozen=True)
class FactorVAEScore:
    """Result of `factor_vae_score`.

    Attributes:
        train: accuracy in [0, 1] on the votes that define the classifier.
        eval: accuracy in [0, 1] on new votes; this is the score to quote.
        active: number of latents that vote.
    """

    train: float
    eval: float
    active: int

    def __str__(self) -> str:
        return f"FactorVAE score {self.eval:.3f} (train {self.train:.3f}, {self.active} active latents)"


def factor_vae_score(
    encode: Encoder,
    sizes: Sequence[int],
    seed: int = 0,
    batch_size: int = 64,
    num_train: int = 10_000,
    num_eval: int = 5_000,
    num_variance: int = 10_000,
    prune_threshold: float = 0.05,
) -> FactorVAEScore:
    """FactorVAE score (Kim and Mnih 2018): does the latent that varies least tell which factor is fixed?

    In each batch one factor is fixed, and the others are uniform over the grid of factor values. The batch
    votes for the latent

        argmin_j Var_batch(z_j) / Var(z_j)

    A majority vote over `num_train` batches assigns a factor to each latent. The score is the share of the
    `num_eval` new batches whose fixed factor is the one assigned to their latent.

    It is 1 if each factor has a latent that is constant when the factor is fixed and varies with the other
    factors, and about 1/K for a representation without information. Latents with a standard deviation below
    `prune_threshold` do not vote; the score is 0 if no latent votes. Factors with one value are never fixed.

    Known weakness: a factor must be available for fixing. The score is 1 for any code in which one factor
    dominates each latent, however mixed the rest is. Several latents may share a factor at no cost.

    Args:
        encode: function from factor values [N, K] to codes [N, D]; it is called with some thousands of points.
        sizes: [K], number of values of each factor.
        seed: seed of the batches.
        batch_size: points per batch.
        num_train: number of batches that define the classifier.
        num_eval: number of batches that evaluate it.
        num_variance: number of points for the overall variances Var(z_j).
        prune_threshold: smallest standard deviation of a latent that votes.

    Raises:
        DeftError: for NaN codes, codes that are not [N, D], sizes without a factor that varies, and counts
            that are too small.

    Examples:
        >>> from deft_lightning.metrics import factor_vae_score
        >>> few = {"num_train": 200, "num_eval": 100, "num_variance": 500}
        >>> print(factor_vae_score(lambda factors: factors, [3, 4], **few))  # each latent encodes one factor
        FactorVAE score 1.000 (train 1.000, 2 active latents)
        >>> print(factor_vae_score(lambda factors: 0.0 * factors, [3, 4], **few))  # no latent is active
        FactorVAE score 0.000 (train 0.000, 0 active latents)
    """
    check_counts(min(num_train, num_eval), batch_size)
    check_counts(1, num_variance)
    local, fixed = [], []
    for codes, factors in encoded(encode, draw_batches, sizes, num_train + num_eval, batch_size, seed):
        local.append(batch_variances(codes))
        fixed.append(factors)
    random = np.random.default_rng([seed, 1])  # a stream of its own: independent of the batches
    points = np.stack([random.integers(size, size=num_variance) for size in sizes], axis=-1)
    chunks = [points[first : first + CHUNK] for first in range(0, num_variance, CHUNK)]
    overall = np.concatenate([encode_points(encode, chunk) for chunk in chunks])
    return _score(np.concatenate(local), np.concatenate(fixed), overall, num_train, prune_threshold)


def factor_vae_of_batches(
    codes: Any, fixed: Any, codes_overall: Any, num_train: int, prune_threshold: float = 0.05
) -> FactorVAEScore:
    """The FactorVAE score of batches that are already encoded; see `factor_vae_score`.

    Args:
        codes: [count, batch_size, D], codes of batches in which one factor is fixed.
        fixed: [count], the fixed factor of each batch.
        codes_overall: [N, D], codes for the overall variances.
        num_train: number of batches, from the first, that define the classifier; the others evaluate it.
        prune_threshold: smallest standard deviation of a latent that votes.

    Raises:
        DeftError: as `factor_vae_score` does.

    Examples:
        >>> import numpy as np
        >>> from deft_lightning.metrics import batches_of_rows, factor_vae_of_batches
        >>> codes = factors = np.tile(np.indices((2, 3)).reshape(2, -1).T, (4, 1))  # [24, 2]
        >>> rows, fixed = batches_of_rows(factors, count=300, batch_size=16, seed=0)
        >>> print(factor_vae_of_batches(codes[rows], fixed, codes, num_train=200))
        FactorVAE score 1.000 (train 1.000, 2 active latents)
    """
    codes, fixed = np.asarray(as_numpy(codes)), np.asarray(as_numpy(fixed))
    if codes.ndim != 3 or codes.shape[1] < 2 or fixed.shape != codes.shape[:1]:
        raise DeftError(
            f"codes have shape {list(codes.shape)} and fixed factors {list(fixed.shape)}: pass "
            "[count, batch_size, D] with at least 2 points per batch, and [count]."
        )
    return _score(batch_variances(codes), fixed, codes_overall, num_train, prune_threshold)


def batch_variances(codes: NDArray[Any]) -> FloatArray:
    """Unbiased variances [count, D] within each batch of codes [count, batch_size, D]."""
    # [count, D, batch_size]: sums over contiguous memory are several times faster. The codes are centred first, so
    # that the sums keep the precision of float32 codes.
    by_latent = np.ascontiguousarray(codes.transpose(0, 2, 1), dtype=np.result_type(codes, np.float32))
    by_latent -= np.einsum("ndb->nd", by_latent)[:, :, None] / codes.shape[1]
    return np.einsum("ndb,ndb->nd", by_latent, by_latent).astype(np.float64) / (codes.shape[1] - 1)


def _score(local: FloatArray, fixed: IntArray, overall: Any, num_train: int, threshold: float) -> FactorVAEScore:
    overall = as_codes(overall)
    if not 0 < num_train < len(local):
        raise DeftError(
            f"num_train is {num_train} of {len(local)} batches: leave at least 1 to train on and 1 to evaluate."
        )
    if local.shape[1] != overall.shape[1]:
        raise DeftError(
            f"codes have {local.shape[1]} latents and codes_overall {overall.shape[1]}: pass codes of the same encoder."
        )
    if not np.isfinite(local).all():
        raise DeftError("codes contain NaN or infinite values: remove those points, or check the encoder.")
    variances = overall.var(axis=0, ddof=1)
    # By rounding, a dead latent may have a variance above 0; it must not vote even if the threshold is 0.
    active = (np.sqrt(variances) >= threshold) & (overall.min(axis=0) < overall.max(axis=0))
    if not active.any():
        return FactorVAEScore(0.0, 0.0, 0)
    voted = np.argmin(local[:, active] / variances[active], axis=1)  # [count]
    train, evaluation = np.zeros((2, int(fixed.max()) + 1, int(active.sum())), dtype=np.int64)  # votes [K, active]
    np.add.at(train, (fixed[:num_train], voted[:num_train]), 1)
    np.add.at(evaluation, (fixed[num_train:], voted[num_train:]), 1)
    classifier = train.argmax(axis=0)  # [active]: the factor assigned to each latent
    right = evaluation[classifier, np.arange(len(classifier))].sum()
    return FactorVAEScore(
        float(train.max(axis=0).sum() / train.sum()), float(right / evaluation.sum()), int(active.sum())
    )

"""The FactorVAE score: the latent that varies least tells which factor was held fixed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deft_lightning.common.errors import DeftError
from deft_lightning.metrics._inputs import as_codes, as_numpy
from deft_lightning.metrics.fixed_factor import (
    CHUNK,
    Encoder,
    Integers,
    check_counts,
    draw_batches,
    encode_points,
    encoded,
)

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class FactorVAEScore:
    """Accuracy in [0, 1] on the votes that made the classifier and on fresh ones; `active` latents were looked at."""

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
    """FactorVAE score (Kim and Mnih 2018) of `encode`, which maps factor values [N, K] to codes [N, D].

    A vote: in a batch of `batch_size` points with one factor fixed and the others uniform over the grid of
    `sizes` [K], the latent whose variance, divided by its variance over `num_variance` points, is least. Each
    latent stands for the factor it is voted for most often over `num_train` votes; the score is how often that
    is right, on those and on `num_eval` fresh votes. 1 when every factor has a latent that stays when it does
    and moves with the others; about 1/K for a representation without information. Latents with a standard
    deviation below `prune_threshold` never vote; 0 when all are so. Factors with one value are never fixed.

    Known weakness: it needs the freedom to fix a factor; it is 1 for any code in which one factor per latent
    dominates, however mixed the rest; several latents may share a factor at no cost.
    `encode` is called with some thousands of points at a time. Raises `DeftError` for NaN codes, codes that are
    not [N, D], sizes without a choice, and counts too small to score.
    """
    check_counts(min(num_train, num_eval), batch_size)
    check_counts(1, num_variance)
    local, fixed = [], []
    for codes, factors in encoded(encode, draw_batches, sizes, num_train + num_eval, batch_size, seed):
        local.append(batch_variances(codes))
        fixed.append(factors)
    random = np.random.default_rng([seed, 1])  # points of their own
    points = np.stack([random.integers(size, size=num_variance) for size in sizes], axis=-1)
    chunks = [points[first : first + CHUNK] for first in range(0, num_variance, CHUNK)]
    overall = np.concatenate([encode_points(encode, chunk) for chunk in chunks])
    return _score(np.concatenate(local), np.concatenate(fixed), overall, num_train, prune_threshold)


def factor_vae_of_batches(
    codes: Any, fixed: Any, codes_overall: Any, num_train: int, prune_threshold: float = 0.05
) -> FactorVAEScore:
    """The score of `factor_vae_score` from codes [count, batch_size, D] at hand, with factor `fixed` [count] fixed.

    `codes_overall` [N, D] give the variances to divide by. The first `num_train` batches make the classifier, the
    others evaluate it. Raises `DeftError` as `factor_vae_score` does.
    """
    codes, fixed = np.asarray(as_numpy(codes)), np.asarray(as_numpy(fixed))
    if codes.ndim != 3 or codes.shape[1] < 2 or fixed.shape != codes.shape[:1]:
        raise DeftError(
            f"codes have shape {list(codes.shape)} and fixed factors {list(fixed.shape)}: give "
            "[count, batch_size, D] with at least 2 points a batch, and [count]."
        )
    return _score(batch_variances(codes), fixed, codes_overall, num_train, prune_threshold)


def batch_variances(codes: NDArray[Any]) -> Matrix:
    """Unbiased variances [count, D] within the batches of codes [count, batch_size, D]."""
    # [count, D, batch_size]: sums over neighbours in memory are several times as fast.
    # Centred first, short sums lose nothing that codes in single precision had.
    by_latent = np.ascontiguousarray(codes.transpose(0, 2, 1), dtype=np.result_type(codes, np.float32))
    by_latent -= np.einsum("ndb->nd", by_latent)[:, :, None] / codes.shape[1]
    return np.einsum("ndb,ndb->nd", by_latent, by_latent).astype(np.float64) / (codes.shape[1] - 1)


def _score(local: Matrix, fixed: Integers, overall: Any, num_train: int, threshold: float) -> FactorVAEScore:
    overall = as_codes(overall)
    if not 0 < num_train < len(local):
        raise DeftError(f"num_train is {num_train} of {len(local)} batches: leave some to evaluate on.")
    if local.shape[1] != overall.shape[1]:
        raise DeftError(f"the batches have {local.shape[1]} latents, the points overall {overall.shape[1]}.")
    if not np.isfinite(local).all():
        raise DeftError("codes hold NaN or infinite values: no score is defined on them.")
    variances = overall.var(axis=0, ddof=1)
    # Rounding may leave a dead latent a variance: it must not vote with a threshold of 0 either.
    active = (np.sqrt(variances) >= threshold) & (overall.min(axis=0) < overall.max(axis=0))
    if not active.any():
        return FactorVAEScore(0.0, 0.0, 0)
    voted = np.argmin(local[:, active] / variances[active], axis=1)  # [count]
    train, evaluation = np.zeros((2, int(fixed.max()) + 1, int(active.sum())), dtype=np.int64)  # votes [K, active]
    np.add.at(train, (fixed[:num_train], voted[:num_train]), 1)
    np.add.at(evaluation, (fixed[num_train:], voted[num_train:]), 1)
    classifier = train.argmax(axis=0)  # [active]: the factor that each latent stands for
    right = evaluation[classifier, np.arange(len(classifier))].sum()
    return FactorVAEScore(
        float(train.max(axis=0).sum() / train.sum()), float(right / evaluation.sum()), int(active.sum())
    )

"""Unsupervised Disentanglement Ranking: runs whose latents agree with those of other runs are disentangled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from scipy.stats import rankdata

from deft_lightning.common.errors import DeftError
from deft_lightning.metrics._inputs import FloatArray, as_codes, as_numpy

Method = Literal["lasso", "spearman"]

MIN_KL = 0.01  # nats: a latent at or below this carries no information and is left out
ALPHA = 0.1  # Lasso penalty, as published


@dataclass(frozen=True)
class UDR:
    """Result of `udr` for R runs.

    Attributes:
        scores: [R], score of each run, in [0, 1].
        pairwise: [R, R], score of run i (row) predicting run j (column); 0 on the diagonal.
        method: the measure of agreement that was used.
    """

    scores: FloatArray
    pairwise: FloatArray
    method: Method

    def __str__(self) -> str:
        return f"UDR ({self.method}) of {len(self.scores)} runs: {', '.join(f'{x:.3f}' for x in self.scores)}"


def udr(codes_per_run: Sequence[Any], kl_per_run: Sequence[Any], method: Method = "lasso") -> UDR:
    """Unsupervised Disentanglement Ranking (Duan et al. 2020, Eq. 3): does a run agree with the other runs?

    R_ij measures how well latent i of one run predicts latent j of another run: the absolute Lasso coefficient,
    or the absolute Spearman rank correlation, of standardised codes. Latents with a KL of at most 0.01 nats are
    left out. With r_i = max_j R_ij, c_j = max_i R_ij, the score of a pair of runs is

        (mean_i r_i^2 / sum_j R_ij + mean_j c_j^2 / sum_i R_ij) / 2

    and the score of a run is the median over the pairs in which it is predicted.

    The score is in [0, 1]. Runs that agree up to permutation and sign score 1 with Spearman. With Lasso they
    score 0.9 if their latents are uncorrelated, because the penalty reduces each coefficient by 0.1. Random
    representations score about 1 / D. R is 0 for a dead latent, and a run without any informative latent
    scores 0.

    Known weakness: the score rewards agreement. Runs that fail in the same way rank high, and two good runs
    that use different bases (colour by hue or by RGB) rank low.

    Args:
        codes_per_run: R times [N, D], mean codes of the same N points.
        kl_per_run: R times [D], KL of each latent in nats.
        method: "lasso" or "spearman".

    Raises:
        DeftError: for fewer than two runs, runs with different numbers of points, NaN codes or KL, a KL that
            does not match the codes, or an unknown method.

    Examples:
        >>> import numpy as np
        >>> from deft_lightning.metrics import udr
        >>> first = np.indices((3, 3)).reshape(2, -1).T  # two uncorrelated latents, [9, 2]
        >>> kl = [2.0, 2.0]
        >>> print(udr([first, -first[:, ::-1]], [kl, kl], "spearman"))  # the same up to order and sign
        UDR (spearman) of 2 runs: 1.000, 1.000
        >>> print(udr([first, first @ [[1, 1], [1, -1]]], [kl, kl], "spearman"))  # a rotated basis
        UDR (spearman) of 2 runs: 0.351, 0.351
    """
    if method not in get_args(Method):
        raise DeftError(f'method is {method!r}: use "lasso" or "spearman".')
    if len(codes_per_run) < 2 or len(codes_per_run) != len(kl_per_run):
        raise DeftError(
            f"UDR has the codes of {len(codes_per_run)} runs and the KL of {len(kl_per_run)}: "
            "pass both for two runs or more."
        )
    runs = [_informative(codes, kl, method) for codes, kl in zip(codes_per_run, kl_per_run, strict=True)]
    lengths = [len(run) for run in runs]
    if len(set(lengths)) > 1:
        raise DeftError(f"the runs of UDR have {lengths} points: encode the same points with each run.")
    count = len(runs)
    pairwise = np.zeros((count, count))
    for i in range(count):
        for j in range(count):
            if i != j:
                pairwise[i, j] = _agreement(_strength(runs[i], runs[j], method))
    others = ~np.eye(count, dtype=bool)
    scores = np.array([np.median(pairwise[others[:, j], j]) for j in range(count)])
    return UDR(scores, pairwise, method)


def _informative(codes: Any, kl: Any, method: Method) -> FloatArray:
    """Standardised codes, or ranks for Spearman, of the latents with a KL above `MIN_KL`, [N, D']; 0 if dead."""
    codes = as_codes(codes)
    kl = np.asarray(as_numpy(kl), dtype=np.float64)
    if kl.shape != codes.shape[1:]:
        raise DeftError(f"UDR has {codes.shape[1]} latents and the KL of {kl.size}: pass one KL per latent.")
    if not np.isfinite(kl).all():
        raise DeftError("the KL of a run is NaN or infinite: leave that run out.")
    codes = codes[:, kl > MIN_KL]
    alive = np.ptp(codes, axis=0) > 0
    values = rankdata(codes, axis=0) if method == "spearman" else codes
    deviation = np.where(alive, values.std(axis=0), 1.0)
    return np.where(alive, (values - values.mean(axis=0)) / deviation, 0.0)


def _strength(first: FloatArray, second: FloatArray, method: Method) -> FloatArray:
    """R [D', D'']: how well each latent of the first run (rows) predicts each latent of the second (columns)."""
    if not first.size or not second.size:
        return np.zeros((first.shape[1], second.shape[1]))
    if method == "spearman":
        return np.abs(first.T @ second) / len(first)
    from sklearn.linear_model import Lasso  # noqa: PLC0415  # slow to import

    coefficients = Lasso(alpha=ALPHA).fit(first, second).coef_  # [D'', D'], or [D'] if there is one target
    return np.abs(np.reshape(coefficients, (second.shape[1], first.shape[1]))).T


def _agreement(strength: FloatArray) -> float:
    """Score of a pair of runs from R [D', D'']."""
    if not strength.size:
        return 0.0
    means = []
    for axis in (0, 1):
        total = strength.sum(axis=axis)
        means.append(np.divide(strength.max(axis=axis) ** 2, total, out=np.zeros_like(total), where=total > 0).mean())
    return float(np.mean(means))

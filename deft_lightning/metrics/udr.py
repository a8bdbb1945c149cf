"""Unsupervised Disentanglement Ranking: runs that agree with each other, latent by latent, are disentangled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from deft_lightning.common.errors import DeftError
from deft_lightning.metrics._inputs import Codes, as_codes, as_numpy

Matrix = NDArray[np.float64]
Method = Literal["lasso", "spearman"]

MIN_KL = 0.01  # nats: a latent at or below it carries no information and is left out
ALPHA = 0.1  # the Lasso penalty of the paper


@dataclass(frozen=True)
class UDR:
    """`scores` of every run [R]; `pairwise` [R, R], run i (row) predicting run j (column), 0 on the diagonal."""

    scores: Matrix
    pairwise: Matrix
    method: Method

    def __str__(self) -> str:
        return f"UDR ({self.method}) of {len(self.scores)} runs: {', '.join(f'{x:.3f}' for x in self.scores)}"


def udr(codes_per_run: Sequence[Any], kl_per_run: Sequence[Any], method: Method = "lasso") -> UDR:
    """UDR (Duan et al. 2020, Eq. 3) of R runs: mean codes [N, D] of the same N points, KL per latent [D] in nats.

    R_ij is the strength with which latent i of one run tells latent j of the other: the size of Lasso
    coefficients, or of Spearman rank correlations, of standardised codes, between latents with KL above
    0.01. A pair of runs scores the mean of max^2 / sum over the columns and over the rows of R, averaged; a
    run scores the median over the pairs in which it is predicted.

    In [0, 1]. Runs that agree up to permutation and sign reach 1 by Spearman, and 0.9 by Lasso where the
    latents are uncorrelated, as the penalty takes 0.1 off every coefficient; runs of random representations
    approach 1 / D. A dead latent has no strength; a run without any informative latent scores 0. Known
    weakness: it rewards agreement, so runs that fail alike rank high, and two sound runs that use other
    bases (colour by hue or by RGB) rank low. Raises `DeftError` for fewer than two runs, runs of other
    points, NaN codes or KL, or a KL that does not fit the codes.
    """
    if method not in get_args(Method):
        raise DeftError(f"UDR has no method {method!r}: choose lasso or spearman.")
    if len(codes_per_run) < 2 or len(codes_per_run) != len(kl_per_run):
        raise DeftError(
            f"UDR got the codes of {len(codes_per_run)} runs and the KL of {len(kl_per_run)}: "
            "give both for two runs or more."
        )
    runs = [_informative(codes, kl, method) for codes, kl in zip(codes_per_run, kl_per_run, strict=True)]
    lengths = [len(run) for run in runs]
    if len(set(lengths)) > 1:
        raise DeftError(f"UDR got runs of {lengths} points: encode the same points with every run.")
    count = len(runs)
    pairwise = np.zeros((count, count))
    for i in range(count):
        for j in range(count):
            if i != j:
                pairwise[i, j] = _agreement(_strength(runs[i], runs[j], method))
    others = ~np.eye(count, dtype=bool)
    scores = np.array([np.median(pairwise[others[:, j], j]) for j in range(count)])
    return UDR(scores, pairwise, method)


def _informative(codes: Any, kl: Any, method: Method) -> Codes:
    """Standardised codes (for Spearman: ranks) of the latents with enough KL, [N, D']; a dead one is 0."""
    codes = as_codes(codes)
    kl = np.asarray(as_numpy(kl), dtype=np.float64)
    if kl.shape != codes.shape[1:]:
        raise DeftError(f"UDR got {codes.shape[1]} latents and the KL of {kl.size}: give one KL for every latent.")
    if not np.isfinite(kl).all():
        raise DeftError("UDR got a KL that is NaN or infinite: leave that run out.")
    codes = codes[:, kl > MIN_KL]
    alive = np.ptp(codes, axis=0) > 0
    values = rankdata(codes, axis=0) if method == "spearman" else codes
    deviation = np.where(alive, values.std(axis=0), 1.0)
    return np.where(alive, (values - values.mean(axis=0)) / deviation, 0.0)


def _strength(first: Codes, second: Codes, method: Method) -> Matrix:
    """R [D', D'']: how strongly each latent of the first run (rows) tells each of the second (columns)."""
    if not first.size or not second.size:
        return np.zeros((first.shape[1], second.shape[1]))
    if method == "spearman":
        return np.abs(first.T @ second) / len(first)
    from sklearn.linear_model import Lasso  # noqa: PLC0415  # slow to import

    coefficients = Lasso(alpha=ALPHA).fit(first, second).coef_  # [D'', D'], or [D'] of a single target
    return np.abs(np.reshape(coefficients, (second.shape[1], first.shape[1]))).T


def _agreement(strength: Matrix) -> float:
    if not strength.size:
        return 0.0
    means = []
    for axis in (0, 1):
        total = strength.sum(axis=axis)
        means.append(np.divide(strength.max(axis=axis) ** 2, total, out=np.zeros_like(total), where=total > 0).mean())
    return float(np.mean(means))

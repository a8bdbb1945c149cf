"""KL = MI + TC + DWKL (Chen et al. 2018): estimates over a minibatch, for training, and over a sample, for reports.

MI is the mutual information of image index and latents, E[log q(z|n) - log q(z)]; TC the total correlation,
E[log q(z) - sum_d log q(z_d)]; DWKL the dimension-wise KL, E[sum_d log q(z_d) - log p(z)]. All need the aggregated
posterior q(z) = 1/N sum_n q(z|n) and its marginals; whatever these are, the three sum to E[log q(z|n) - log p(z)].
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from deft_lightning.common.errors import DeftError
from deft_lightning.model.networks import Posterior
from deft_lightning.model.objectives.base import global_batch

ESTIMATORS = ("weighted", "stratified")
LOG_2PI = math.log(2.0 * math.pi)


class Decomposition(NamedTuple):
    """Index-code mutual information, total correlation and dimension-wise KL, scalars in nats."""

    mi: Tensor
    tc: Tensor
    dwkl: Tensor


def minibatch_decomposition(
    posterior: Posterior, sample: Tensor, dataset_size: int, estimator: str = "weighted"
) -> Decomposition:
    """The three terms from the posteriors of one (global) batch of B out of N = `dataset_size` images, with gradients.

    `weighted`: q(z_i) is 1/(NB) sum_j q(z_i|n_j), minibatch weighted sampling. It is too low by a factor that goes to
    N as posteriors overlap: MI then comes out log N above its true value, TC (D - 1) log N above, DWKL D log N below,
    constants that have no gradient. `stratified`: q(z_i) is 1/N q(z_i|n_i) + (N - 1)/(N (B - 1)) sum_{j != i}
    q(z_i|n_j), minibatch stratified sampling in expectation over the order of the batch. It is unbiased, and exact
    when the batch is the data set; its logarithm is low where few images of the batch are near z_i.
    Raises `DeftError` when `dataset_size` is not positive.
    """
    if dataset_size < 1:
        raise DeftError(f"the data set has {dataset_size} images: give the objective the number it is trained on.")
    sample, mean, log_variance = global_batch(torch.cat([sample, *posterior], dim=1)).chunk(3, dim=1)  # [B, D] each
    conditional = log_density(sample[:, None], mean, log_variance)  # [B, B, D], of z_i under q(z|n_j)
    log_weights = _log_weights(sample, dataset_size, estimator)  # [B, B]
    own = conditional.diagonal().sum(dim=0)  # [B]
    joint = torch.logsumexp(conditional.sum(dim=2) + log_weights, dim=1)  # [B]
    marginals = torch.logsumexp(conditional + log_weights[..., None], dim=1).sum(dim=1)  # [B]
    prior = -0.5 * (sample.square() + LOG_2PI).sum(dim=1)  # [B]
    return Decomposition((own - joint).mean(), (joint - marginals).mean(), (marginals - prior).mean())


def log_density(sample: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Log density in nats of a Gaussian per latent; the arguments are broadcast."""
    residual = (sample - mean) * torch.exp(-0.5 * log_variance)
    # One narrow posterior is enough to put other samples 1e20 standard deviations away, whose square overflows float32:
    # infinity times a weight of zero is NaN in the gradient. The bound leaves the density zero, and its square finite.
    return -0.5 * (residual.clamp(-1e15, 1e15).square() + log_variance + LOG_2PI)


def _log_weights(sample: Tensor, dataset_size: int, estimator: str) -> Tensor:
    """Logarithm of the weight of q(z_i|n_j) in q(z_i) for `sample` [B, D], [B, B]."""
    batch = len(sample)
    if estimator == "weighted":
        return sample.new_full((batch, batch), -math.log(dataset_size * batch))
    others = (dataset_size - 1) / (dataset_size * (batch - 1)) if batch > 1 else 0.0
    return sample.new_full((batch, batch), others).fill_diagonal_(1.0 / dataset_size).log()


@torch.no_grad()
def kl_decomposition(mean: Tensor, log_variance: Tensor, sample: Tensor, chunk: int = 64) -> Decomposition:
    """The three terms under the exact aggregated posterior of the N posteriors given, float64 scalars on the CPU.

    All arguments are [N, D], with one z of `sample` from each posterior. Memory is a few matrices [chunk, N], on the
    device of the arguments. No z counts for more than log N, so MI cannot exceed log N: where it comes near, N is too
    small to tell the images' posteriors apart, and the true MI is larger.
    Raises `DeftError` when the shapes differ or a value is not finite.
    """
    if mean.dim() != 2 or not mean.shape == log_variance.shape == sample.shape or not len(mean):
        shapes = ", ".join(str(list(x.shape)) for x in (mean, log_variance, sample))
        raise DeftError(f"mean, log variance and sample have shapes {shapes}: give three matrices [N, D] of one shape.")
    if not all(bool(x.isfinite().all()) for x in (mean, log_variance, sample)):
        raise DeftError("posteriors hold NaN or infinite values: their KL has no decomposition.")
    points, latents = mean.shape
    centres = mean.T.contiguous()  # [D, N]
    scales = torch.exp(-0.5 * log_variance).T.contiguous()
    peaks = -0.5 * log_variance.T.contiguous()
    joints, marginals = [], []
    for rows in sample.split(chunk):  # [chunk, D]
        joint = rows.new_zeros(len(rows), points)
        marginal = rows.new_zeros(len(rows))
        for d in range(latents):
            # A matrix product over z^2, z and 1 would be no faster, most time going into the exponentials of the
            # marginals, and its terms would cancel: narrow posteriors lose their digits.
            residual = (rows[:, d, None] - centres[d]).mul_(scales[d]).clamp_(-1e15, 1e15)
            exponent = torch.addcmul(peaks[d], residual, residual, value=-0.5)  # [chunk, N]
            joint += exponent
            marginal += _logsumexp_(exponent)
        joints.append(_logsumexp_(joint))
        marginals.append(marginal)
    return _terms(mean, log_variance, sample, torch.cat(joints), torch.cat(marginals))


def _logsumexp_(exponents: Tensor) -> Tensor:
    """Log of the sum of exponentials of each row of `exponents` [n, N], which is overwritten; [n]."""
    top = exponents.amax(dim=1)
    # The floor adds at most N e^-80 to the sum; an exponential that underflows takes a processor ten times as long.
    return exponents.sub_(top[:, None]).clamp_(min=-80.0).exp_().sum(dim=1).log_().add_(top)


def _terms(mean: Tensor, log_variance: Tensor, sample: Tensor, joint: Tensor, marginals: Tensor) -> Decomposition:
    """The terms in float64, on the CPU since mps has none, from sums [N] that lack the constants of the densities."""
    mean, log_variance, sample, joint, marginals = (
        x.cpu().double() for x in (mean, log_variance, sample, joint, marginals)
    )
    points, latents = mean.shape
    constant = -0.5 * latents * LOG_2PI
    joint = joint + constant - math.log(points)
    marginals = marginals + constant - latents * math.log(points)
    own = log_density(sample, mean, log_variance).sum(dim=1)
    prior = -0.5 * sample.square().sum(dim=1) + constant
    return Decomposition((own - joint).mean(), (joint - marginals).mean(), (marginals - prior).mean())

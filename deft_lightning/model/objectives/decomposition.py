"""The KL in three terms (Chen et al. 2018): estimates over a minibatch, for training, and over a sample, for reports.

    KL   = MI + TC + DWKL
    MI   = E[log q(z|n) - log q(z)]          mutual information of image index n and latents z
    TC   = E[log q(z) - sum_d log q(z_d)]    total correlation
    DWKL = E[sum_d log q(z_d) - log p(z)]    dimension-wise KL

All three need the aggregated posterior q(z) = 1/N sum_n q(z|n) and its marginals. Whatever estimates of these are
used, the three terms add up to E[log q(z|n) - log p(z)].
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from deft_lightning.common.errors import DeftError
from deft_lightning.model.global_batch import global_batch
from deft_lightning.model.networks import Posterior

ESTIMATORS = ("weighted", "stratified")
LOG_2PI = math.log(2.0 * math.pi)


class Decomposition(NamedTuple):
    """The three terms of the KL, scalars in nats.

    Attributes:
        mi: mutual information of image index and latents.
        tc: total correlation.
        dwkl: dimension-wise KL.
    """

    mi: Tensor
    tc: Tensor
    dwkl: Tensor


def minibatch_decomposition(
    posterior: Posterior, sample: Tensor, dataset_size: int, estimator: str = "weighted"
) -> Decomposition:
    """The three terms, with gradients, from the posteriors of B out of N images.

    The batch is the global one, of all processes. The estimators of q(z_i) for the sample z_i of image n_i are

        weighted:   1/(N B) sum_j q(z_i|n_j)
        stratified: 1/N q(z_i|n_i) + (N - 1)/(N (B - 1)) sum_{j != i} q(z_i|n_j)

    "weighted" is minibatch weighted sampling. It is too low by a factor that approaches N the more the posteriors
    overlap. MI is then log N too high, TC (D - 1) log N too high, and DWKL D log N too low: constants, which have no
    gradient.

    "stratified" is minibatch stratified sampling in expectation over the order of the batch. It is unbiased, and exact
    if the batch is the data set. Its logarithm is too low where few images of the batch are near z_i.

    Args:
        posterior: [B, D].
        sample: one sample from each posterior, [B, D].
        dataset_size: N.
        estimator: "weighted" or "stratified".

    Raises:
        DeftError: if `dataset_size` is not positive.
    """
    if dataset_size < 1:
        raise DeftError(f"the data set has {dataset_size} images: give the objective the number it is trained on.")
    sample, mean, log_variance = global_batch(torch.cat([sample, *posterior], dim=1)).chunk(3, dim=1)  # [B, D] each
    densities = log_density(sample[:, None], mean, log_variance)  # [B, B, D], of z_i under q(z|n_j)
    log_weights = _log_weights(sample, dataset_size, estimator)  # [B, B]
    conditional = densities.diagonal().sum(dim=0)  # [B]
    joint = torch.logsumexp(densities.sum(dim=2) + log_weights, dim=1)  # [B]
    marginals = torch.logsumexp(densities + log_weights[..., None], dim=1).sum(dim=1)  # [B]
    prior = -0.5 * (sample.square() + LOG_2PI).sum(dim=1)  # [B]
    return Decomposition((conditional - joint).mean(), (joint - marginals).mean(), (marginals - prior).mean())


def log_density(sample: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Log density of a Gaussian per latent, in nats. The arguments are broadcast."""
    residual = (sample - mean) * torch.exp(-0.5 * log_variance)
    # A narrow posterior can put other samples 1e20 standard deviations away. The square of that overflows float32, and
    # infinity times a weight of zero is NaN in the gradient. The clamp keeps the square finite and the density zero.
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
    """The three terms under the exact aggregated posterior of N posteriors, as float64 scalars on the CPU.

    MI is at most log N, because q(z) is at least q(z|n) / N. Where it comes close to that, N is too small, and the MI
    over all images is larger.

    Args:
        mean: [N, D].
        log_variance: [N, D].
        sample: one sample from each posterior, [N, D].
        chunk: samples that are handled at once. It needs a few matrices [chunk, N] on the device of the arguments.

    Raises:
        DeftError: if the shapes differ or a value is not finite.
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
            # A matrix product over z^2, z and 1 would be no faster, since the exponentials of the marginals take most
            # of the time, and its terms would cancel: the densities of narrow posteriors would lose their digits.
            residual = (rows[:, d, None] - centres[d]).mul_(scales[d]).clamp_(-1e15, 1e15)
            exponent = torch.addcmul(peaks[d], residual, residual, value=-0.5)  # [chunk, N]
            joint += exponent
            marginal += _logsumexp_(exponent)
        joints.append(_logsumexp_(joint))
        marginals.append(marginal)
    return _terms(mean, log_variance, sample, torch.cat(joints), torch.cat(marginals))


def _logsumexp_(exponents: Tensor) -> Tensor:
    """Logarithm of the sum of exponentials of each row of `exponents` [n, N], [n]. Overwrites `exponents`."""
    top = exponents.amax(dim=1)
    # Exponentials that underflow take a processor ten times as long. The bound adds at most N e^-80 to the sum.
    return exponents.sub_(top[:, None]).clamp_(min=-80.0).exp_().sum(dim=1).log_().add_(top)


def _terms(mean: Tensor, log_variance: Tensor, sample: Tensor, joint: Tensor, marginals: Tensor) -> Decomposition:
    """The terms from sums [N] that lack the constants of the densities. In float64 on the CPU, since mps has none."""
    mean, log_variance, sample, joint, marginals = (
        x.cpu().double() for x in (mean, log_variance, sample, joint, marginals)
    )
    points, latents = mean.shape
    constant = -0.5 * latents * LOG_2PI
    joint = joint + constant - math.log(points)
    marginals = marginals + constant - latents * math.log(points)
    conditional = log_density(sample, mean, log_variance).sum(dim=1)
    prior = -0.5 * sample.square().sum(dim=1) + constant
    return Decomposition((conditional - joint).mean(), (joint - marginals).mean(), (marginals - prior).mean())

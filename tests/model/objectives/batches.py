"""One batch as the module hands it to an objective, and codes with a chosen covariance."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from deft_lightning.model.likelihoods import Bernoulli, Likelihood
from deft_lightning.model.networks import Posterior
from deft_lightning.model.objectives import Loss, Objective, loss_function


class Batch(NamedTuple):
    """Random images and parameters [B, 1, 4, 4]; posterior and sample [B, D], made of `mean` and `log_variance`."""

    images: Tensor
    parameters: Tensor
    posterior: Posterior
    sample: Tensor

    def reconstruction(self, likelihood: Likelihood | None = None) -> Tensor:
        return (likelihood or Bernoulli()).nll(self.parameters, self.images)

    def loss(self, objective: Objective, pressure: float = 1.0, likelihood: Likelihood | None = None) -> Loss:
        return loss_function(likelihood or Bernoulli(), objective)(*self, torch.tensor(pressure))

    def regulariser(self, objective: Objective, pressure: float = 1.0) -> Tensor:
        """The loss without the reconstruction."""
        return self.loss(objective, pressure).total - self.reconstruction()


def make_batch(mean: Tensor, log_variance: Tensor, seed: int = 0) -> Batch:
    """A batch with these posteriors, [B, D]; gradients flow to both through the sample too."""
    random = torch.Generator().manual_seed(seed)
    images = torch.rand(len(mean), 1, 4, 4, generator=random)
    parameters = torch.randn(len(mean), 1, 4, 4, generator=random)
    posterior = Posterior(mean, log_variance)
    noise = torch.randn(mean.shape, generator=random, dtype=torch.float64).to(mean)
    return Batch(images, parameters, posterior, posterior.sample(noise))


def codes_with_covariance(covariance: Tensor, count: int, seed: int = 0) -> Tensor:
    """Codes [count, D], float64, whose mean is zero and whose covariance with 1 / count is exactly `covariance`."""
    random = torch.Generator().manual_seed(seed)
    codes = torch.randn(count, len(covariance), generator=random, dtype=torch.float64)
    codes -= codes.mean(dim=0)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(codes.T @ codes / count), codes.T, upper=False)
    return (torch.linalg.cholesky(covariance.double()) @ white).T

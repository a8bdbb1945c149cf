"""One batch as the module hands it to an objective, and codes with a chosen covariance."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from deft_lightning.model.networks import Posterior
from deft_lightning.model.objectives import Loss, Objective, reconstruction


class Batch(NamedTuple):
    """Random images and logits [B, 1, 4, 4]; posterior and sample [B, D], functions of `mean` and `log_variance`."""

    images: Tensor
    logits: Tensor
    posterior: Posterior
    sample: Tensor

    def loss(self, objective: Objective, pressure: float = 1.0) -> Loss:
        return objective.loss(*self, torch.tensor(pressure))

    def regulariser(self, objective: Objective, pressure: float = 1.0) -> Tensor:
        """The loss without the reconstruction."""
        return self.loss(objective, pressure).total - reconstruction(self.images, self.logits)


def make_batch(mean: Tensor, log_variance: Tensor, seed: int = 0) -> Batch:
    """A batch with these posteriors, [B, D]; gradients flow to both through the sample too."""
    random = torch.Generator().manual_seed(seed)
    images = torch.rand(len(mean), 1, 4, 4, generator=random)
    logits = torch.randn(len(mean), 1, 4, 4, generator=random)
    posterior = Posterior(mean, log_variance)
    noise = torch.randn(mean.shape, generator=random, dtype=torch.float64).to(mean)
    return Batch(images, logits, posterior, posterior.sample(noise))


def codes_with_covariance(covariance: Tensor, count: int, seed: int = 0) -> Tensor:
    """Codes [count, D], float64, whose mean is zero and whose covariance with 1 / count is exactly `covariance`."""
    random = torch.Generator().manual_seed(seed)
    codes = torch.randn(count, len(covariance), generator=random, dtype=torch.float64)
    codes -= codes.mean(dim=0)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(codes.T @ codes / count), codes.T, upper=False)
    return (torch.linalg.cholesky(covariance.double()) @ white).T

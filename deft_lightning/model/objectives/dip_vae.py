"""DIP-VAE-I and II (Kumar et al. 2018): the covariance of the aggregated posterior is pulled to the identity."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from deft_lightning.common import checks
from deft_lightning.model.global_batch import global_batch
from deft_lightning.model.networks import Posterior
from deft_lightning.model.objectives.base import Loss, Objective, elbo_parts


class DIPVAE(Objective):
    """A penalty on the distance of a covariance C [D, D] of the latents from the identity (Kumar et al. 2018).

        loss = R + beta KL + lambda_od sum_{i != j} C_ij^2 + lambda_d sum_i (C_ii - 1)^2

    where beta is the pressure. Both sums are logged, without their weights.

    Args:
        lambda_od: weight of the off-diagonal entries, from 0 up.
        lambda_d: weight of the diagonal entries, from 0 up. Where it is None it is `ratio` x lambda_od, as in the
            public study of Locatello et al. 2019.

    Raises:
        DeftError: for a negative weight.
    """

    ratio: ClassVar[float]

    def __init__(self, lambda_od: float = 10.0, lambda_d: float | None = None) -> None:
        super().__init__()
        self.lambda_od = checks.number("objective.lambda_od", lambda_od)
        self.lambda_d = (
            self.ratio * self.lambda_od if lambda_d is None else checks.number("objective.lambda_d", lambda_d)
        )

    @abstractmethod
    def covariance(self, posterior: Posterior) -> Tensor:
        """C [D, D], over the global batch."""

    def loss(self, reconstruction: Tensor, posterior: Posterior, sample: Tensor, pressure: Tensor) -> Loss:
        parts = elbo_parts(reconstruction, posterior)
        covariance = self.covariance(posterior)
        variances = covariance.diagonal()  # [D]
        off_diagonal = (covariance - torch.diag(variances)).square().sum()
        diagonal = (variances - 1.0).square().sum()
        total = parts["reconstruction"] + pressure * parts["kl"]
        total = total + self.lambda_od * off_diagonal + self.lambda_d * diagonal
        return Loss(total, {"loss": total, **parts, "dip_off_diagonal": off_diagonal, "dip_diagonal": diagonal})


class DIPVAE1(DIPVAE):
    """DIP-VAE-I, whose C is the covariance of the means: C = Cov(mu). See `DIPVAE` for the loss and the arguments."""

    label = "DIP-VAE-I"
    ratio = 10.0

    def covariance(self, posterior: Posterior) -> Tensor:
        return covariance_of(global_batch(posterior.mean))


class DIPVAE2(DIPVAE):
    """DIP-VAE-II, whose C is the covariance of the samples: C = Cov(mu) + E[diag(sigma^2)].

    See `DIPVAE` for the loss and the arguments.
    """

    label = "DIP-VAE-II"
    ratio = 1.0

    def covariance(self, posterior: Posterior) -> Tensor:
        mean, log_variance = global_batch(torch.cat(posterior, dim=1)).chunk(2, dim=1)
        # The penalty squares the variance, which overflows float32 above e^44. Variances above e^30 are cut off; the
        # gradient of the KL term is strong enough there.
        return covariance_of(mean) + torch.diag(log_variance.clamp(max=30.0).exp().mean(dim=0))


def covariance_of(codes: Tensor) -> Tensor:
    """Covariance [D, D] of `codes` [B, D] with divisor B, as in the public study of Locatello et al. 2019."""
    centred = codes - codes.mean(dim=0)
    with torch.autocast(codes.device.type, enabled=False):  # a loss is in single precision
        return centred.T @ centred / len(codes)

"""beta-VAE (Higgins et al. 2017): the negative ELBO with the KL term under pressure, Eq. 2."""

from __future__ import annotations

from torch import Tensor

from deft_lightning.networks import Posterior
from deft_lightning.objectives.base import Loss, Objective, reconstruction


class BetaVAE(Objective):
    """R + beta KL, beta being the pressure of the schedule: also the objective of DEFT, with its stages."""

    def loss(self, batch: Tensor, logits: Tensor, posterior: Posterior, sample: Tensor, pressure: Tensor) -> Loss:
        error = reconstruction(batch, logits)
        kl_per_latent = posterior.kl().mean(dim=0)  # [D]
        kl = kl_per_latent.sum()
        total = error + pressure * kl
        return Loss(total, {"loss": total, "reconstruction": error, "kl": kl, "kl/latent": kl_per_latent})

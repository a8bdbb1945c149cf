"""beta-VAE (Higgins et al. 2017): the negative ELBO with the KL term under pressure, Eq. 2."""

from __future__ import annotations

from torch import Tensor

from deft_lightning.model.networks import Posterior
from deft_lightning.model.objectives.base import Loss, Objective, elbo_parts


class BetaVAE(Objective):
    """R + beta KL, beta being the pressure of the schedule: also the objective of DEFT, with its stages."""

    label = "beta-VAE"

    def loss(self, batch: Tensor, logits: Tensor, posterior: Posterior, sample: Tensor, pressure: Tensor) -> Loss:
        parts = elbo_parts(batch, logits, posterior)
        total = parts["reconstruction"] + pressure * parts["kl"]
        return Loss(total, {"loss": total, **parts})

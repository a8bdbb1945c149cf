"""beta-VAE (Higgins et al. 2017), also the objective of DEFT."""

from __future__ import annotations

from torch import Tensor

from deft_lightning.model.networks import Posterior
from deft_lightning.model.objectives.base import Loss, Objective, elbo_parts


class BetaVAE(Objective):
    """beta-VAE (Higgins et al. 2017), Eq. 2: the negative ELBO with a weight on the KL term.

        loss = R + beta KL

    where beta is the pressure that the schedule gives for the step. With several encoder groups and stages this is the
    objective of DEFT.
    """

    label = "beta-VAE"

    def loss(self, reconstruction: Tensor, posterior: Posterior, sample: Tensor, pressure: Tensor) -> Loss:
        parts = elbo_parts(reconstruction, posterior)
        total = parts["reconstruction"] + pressure * parts["kl"]
        return Loss(total, {"loss": total, **parts})

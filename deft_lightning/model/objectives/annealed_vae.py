"""AnnealedVAE (Burgess et al. 2018): the KL is held at a capacity that grows during training."""

from __future__ import annotations

from torch import Tensor

from deft_lightning.common import checks
from deft_lightning.model.global_batch import global_batch
from deft_lightning.model.networks import Posterior
from deft_lightning.model.objectives.base import Loss, Objective, elbo_parts


class AnnealedVAE(Objective):
    """AnnealedVAE (Burgess et al. 2018): the KL is held at a capacity that grows during training.

        loss = R + gamma |KL - C|

    where C is the capacity that the schedule gives for the step, in nats.

    Args:
        gamma: weight of the distance from the capacity, from 0 up.

    Raises:
        DeftError: for a negative gamma.
    """

    label = "AnnealedVAE"
    quantity = "capacity"

    def __init__(self, gamma: float = 1000.0) -> None:
        super().__init__()
        self.gamma = checks.number("objective.gamma", gamma)

    def loss(self, reconstruction: Tensor, posterior: Posterior, sample: Tensor, pressure: Tensor) -> Loss:
        """`pressure` is the capacity C, a scalar in nats."""
        parts = elbo_parts(reconstruction, posterior)
        kl = global_batch(parts["kl"][None]).mean()  # global, so that every process is on the same side of C
        total = parts["reconstruction"] + self.gamma * (kl - pressure).abs()
        return Loss(total, {"loss": total, **parts})

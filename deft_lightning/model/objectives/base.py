"""The contract of an objective, and what several of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.nn.functional import all_gather

from deft_lightning.common.errors import DeftError
from deft_lightning.model.networks import Posterior
from deft_lightning.model.schedules.base import Schedule


class Loss(NamedTuple):
    """`total` is differentiated; `parts` are logged under their names, in nats: scalars, or vectors [D]."""

    total: Tensor
    parts: dict[str, Tensor]


class Objective(nn.Module, ABC):
    """A loss over one batch; see `loss`.

    `label` is the method's name in tables and figures. `quantity` is what the schedule has to give at every step:
    "pressure", the weight of the KL term, or "capacity", its target in nats. The module calls `build` once and
    sets `dataset_size`, the number of training images, before the first step. One that `learns` has its `update`
    called after every step.
    """

    label: ClassVar[str]
    quantity: ClassVar[str] = "pressure"
    learns: ClassVar[bool] = False
    dataset_size: int = 0

    def build(self, latents: int) -> None:
        """Make whatever depends on the number of latents; most objectives have nothing to make."""

    def check(self, schedule: Schedule) -> None:
        """Raise `DeftError` when `schedule` does not give the quantity that this objective needs."""
        if schedule.quantity != self.quantity:
            fitting = "capacity" if self.quantity == "capacity" else "constant or piecewise"
            raise DeftError(
                f"{self.label} presses with a {self.quantity}, and the schedule gives a {schedule.quantity}: "
                f"choose schedule={fitting}, or another objective."
            )

    @abstractmethod
    def loss(self, batch: Tensor, logits: Tensor, posterior: Posterior, sample: Tensor, pressure: Tensor) -> Loss:
        """The loss to minimise, summed over pixels and latents, averaged over the batch.

        `batch` and `logits` are [B, C, H, W], `posterior` and `sample` [B, D], `pressure` a scalar: the pressure or
        the capacity that the schedule has for this step.
        """

    def update(self, sample: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """The objective's own learning, after the model's step, such as FactorVAE's discriminator; most learn nothing.

        `sample` [B, D] is the step's sample, detached; `generator`, on its device, is a function of the step. What
        is returned is logged beside the parts of the loss. Optimiser state belongs in `get_extra_state`.
        """
        return {}


def reconstruction(batch: Tensor, logits: Tensor) -> Tensor:
    """Bernoulli negative log likelihood in nats, summed over pixels and channels, averaged over the batch.

    `batch` in [0, 1] and `logits`, both [B, C, H, W].
    """
    return F.binary_cross_entropy_with_logits(logits, batch, reduction="sum") / batch.shape[0]


def elbo_parts(batch: Tensor, logits: Tensor, posterior: Posterior) -> dict[str, Tensor]:
    """What every objective logs: `reconstruction` and `kl`, scalars, and `kl/latent` [D], averaged over the batch."""
    kl_per_latent = posterior.kl().mean(dim=0)  # [D]
    return {"reconstruction": reconstruction(batch, logits), "kl": kl_per_latent.sum(), "kl/latent": kl_per_latent}


def global_batch(values: Tensor) -> Tensor:
    """The rows of all processes, [world size * B, ...] of each one's [B, ...], with gradients; alone, `values`.

    An estimator over the batch then sees the global batch. Averaging gradients over processes, as DDP does, gives
    the gradient that one process with the same global batch has.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return values
    return torch.cat(all_gather(values.contiguous()))

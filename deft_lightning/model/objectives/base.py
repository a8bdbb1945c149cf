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
    """The loss of one batch, in nats.

    Attributes:
        total: scalar to differentiate.
        parts: what is logged, by name: scalars, or vectors [D] of one value per latent.
    """

    total: Tensor
    parts: dict[str, Tensor]


class Objective(nn.Module, ABC):
    """A loss over one batch, see `loss`.

    The module calls `build` once, sets `dataset_size` before the first step, and calls `update` after every step if
    `learns` is true.

    Attributes:
        label: name of the method in tables and figures.
        quantity: what the schedule must give for every step: "pressure", the weight of the KL term, or "capacity",
            its target in nats.
        learns: whether the objective has parameters of its own, which `update` trains.
        dataset_size: number of training images.
    """

    label: ClassVar[str]
    quantity: ClassVar[str] = "pressure"
    learns: ClassVar[bool] = False
    dataset_size: int = 0

    def build(self, latents: int) -> None:
        """Make what depends on the number of latents. Most objectives need nothing."""

    def check(self, schedule: Schedule) -> None:
        """Raise `DeftError` if `schedule` does not give the quantity that this objective needs."""
        if schedule.quantity != self.quantity:
            fitting = "capacity" if self.quantity == "capacity" else "constant or piecewise"
            raise DeftError(
                f"the schedule gives a {schedule.quantity} and {self.label} needs a {self.quantity}: "
                f"use schedule={fitting}, or another objective."
            )

    @abstractmethod
    def loss(self, batch: Tensor, logits: Tensor, posterior: Posterior, sample: Tensor, pressure: Tensor) -> Loss:
        """The loss to minimise, summed over pixels and latents and averaged over the batch.

        Args:
            batch: images [B, C, H, W] in [0, 1].
            logits: output of the decoder, [B, C, H, W].
            posterior: posteriors of the images, [B, D].
            sample: latents that were decoded, [B, D].
            pressure: scalar, the pressure or the capacity that the schedule gives for this step.
        """

    def update(self, sample: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Train the objective's own parameters, such as FactorVAE's discriminator, after the step of the model.

        The state of its optimiser belongs in `get_extra_state`, so that it is saved in checkpoints.

        Args:
            sample: latents of the step, [B, D], detached.
            generator: random numbers for this step, on the device of `sample`; the same in every process.

        Returns:
            What is logged beside the parts of the loss: scalars by name.
        """
        return {}


def reconstruction(batch: Tensor, logits: Tensor) -> Tensor:
    """Bernoulli negative log likelihood in nats, summed over pixels and channels and averaged over the batch.

    Args:
        batch: images [B, C, H, W] in [0, 1].
        logits: [B, C, H, W].
    """
    return F.binary_cross_entropy_with_logits(logits, batch, reduction="sum") / batch.shape[0]


def elbo_parts(batch: Tensor, logits: Tensor, posterior: Posterior) -> dict[str, Tensor]:
    """What every objective logs, averaged over the batch: `reconstruction` and `kl`, scalars, and `kl/latent` [D]."""
    kl_per_latent = posterior.kl().mean(dim=0)  # [D]
    return {"reconstruction": reconstruction(batch, logits), "kl": kl_per_latent.sum(), "kl/latent": kl_per_latent}


def global_batch(values: Tensor) -> Tensor:
    """`values` [B, ...] of all processes, [world size * B, ...], with gradients; in a single process `values`.

    An estimator over the batch then sees the global batch. The average of its gradients over the processes, which DDP
    takes, equals the gradient of one process with the same global batch.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return values
    return torch.cat(all_gather(values.contiguous()))

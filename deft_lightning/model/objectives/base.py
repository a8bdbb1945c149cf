"""The contract of an objective, and what several of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from deft_lightning.common.errors import DeftError
from deft_lightning.model.likelihoods import Likelihood
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
    def loss(self, reconstruction: Tensor, posterior: Posterior, sample: Tensor, pressure: Tensor) -> Loss:
        """The loss to minimise, summed over pixels and latents and averaged over the batch.

        Args:
            reconstruction: scalar, the negative log likelihood of the images in nats, from the model's likelihood.
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

    def graph_update(self, sample: Tensor) -> None:
        """Prepare `update` to replay CUDA graphs, see `model.compiling`. By default it runs as it is.

        Called within the first step, perhaps under autocast, once the step itself is graphed. Only the shape [B, D],
        the type and the device of `sample` matter.
        """


def elbo_parts(reconstruction: Tensor, posterior: Posterior) -> dict[str, Tensor]:
    """What every objective logs, averaged over the batch: `reconstruction` and `kl`, scalars, and `kl/latent` [D]."""
    kl_per_latent = posterior.kl().mean(dim=0)  # [D]
    return {"reconstruction": reconstruction, "kl": kl_per_latent.sum(), "kl/latent": kl_per_latent}


def loss_function(likelihood: Likelihood, objective: Objective) -> Callable[..., Loss]:
    """The loss of images, parameters of the likelihood [B, C, H, W] each, posterior and sample [B, D], and pressure."""

    def loss(images: Tensor, parameters: Tensor, posterior: Posterior, sample: Tensor, pressure: Tensor) -> Loss:
        return objective.loss(likelihood.nll(parameters, images), posterior, sample, pressure)

    return loss

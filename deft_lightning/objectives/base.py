"""The contract of an objective, and the part that all of them share: the reconstruction error."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from deft_lightning.networks import Posterior


class Loss(NamedTuple):
    """`total` is differentiated; `parts` are logged under their names, in nats: scalars, or vectors [D]."""

    total: Tensor
    parts: dict[str, Tensor]


class Objective(nn.Module, ABC):
    """A loss over one batch; see `loss`."""

    @abstractmethod
    def loss(self, batch: Tensor, logits: Tensor, posterior: Posterior, sample: Tensor, pressure: Tensor) -> Loss:
        """The loss to minimise, summed over pixels and latents, averaged over the batch.

        `batch` and `logits` are [B, C, H, W], `posterior` and `sample` [B, D], `pressure` a scalar.
        """


def reconstruction(batch: Tensor, logits: Tensor) -> Tensor:
    """Bernoulli negative log likelihood in nats, summed over pixels and channels, averaged over the batch.

    `batch` in [0, 1] and `logits`, both [B, C, H, W].
    """
    return F.binary_cross_entropy_with_logits(logits, batch, reduction="sum") / batch.shape[0]

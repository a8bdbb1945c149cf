"""What the model asks of its networks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Posterior(NamedTuple):
    """Diagonal Gaussian q(z|x): `mean` and `log_variance`, both [B, D]."""

    mean: Tensor
    log_variance: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """z = mean + sigma * noise, [B, D]: the reparameterisation of Kingma & Welling 2013."""
        return self.mean + torch.exp(0.5 * self.log_variance) * noise

    def kl(self) -> Tensor:
        """KL(q(z|x) || N(0, 1)) per image and latent in nats, [B, D]."""
        return 0.5 * (self.mean.square() + self.log_variance.exp() - 1.0 - self.log_variance)


class Encoders(nn.Module, ABC):
    """The encoders of all groups: images [B, C, H, W] to the `Posterior` of all latents, [B, D] each.

    `groups` holds one module for each encoder group, with parameters of its own: those that learn at the group's rate.
    """

    groups: nn.ModuleList


class Networks(ABC):
    """A family of encoders and decoders, made for a shape of images and a number of latents."""

    @abstractmethod
    def check(self, groups: int, image_size: int) -> None:
        """Raise `DeftError` when the family does not take square images of `image_size`, or so many encoder groups."""

    @abstractmethod
    def encoders(self, image_shape: tuple[int, int, int], latents: Sequence[int]) -> Encoders:
        """The encoders of groups with so many `latents` each, for images [C, H, W].

        Raises `DeftError` for a size of images that the networks do not take.
        """

    @abstractmethod
    def decoder(self, image_shape: tuple[int, int, int], latents: int) -> nn.Module:
        """A decoder of latents [B, D] to the logits of images [B, C, H, W]. Raises `DeftError` as `encoders` does."""


def initialise(module: nn.Module) -> None:
    """Glorot uniform weights and zero biases in every layer (Glorot & Bengio 2010), from torch's global generator.

    The paper names no initialisation; this one is the default of the framework that the public study of Locatello et
    al. 2019 used. It matters: under the high pressure of the first stage PyTorch's own, smaller weights learn the
    positions half as well in the same number of steps.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

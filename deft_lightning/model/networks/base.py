"""The interface of the networks: encoders of all groups, a decoder, and the posterior."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Posterior(NamedTuple):
    """Diagonal Gaussian q(z|x).

    Attributes:
        mean: [B, D].
        log_variance: [B, D].
    """

    mean: Tensor
    log_variance: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """z = mean + sigma * noise, [B, D], the reparameterisation of Kingma & Welling 2013."""
        return self.mean + torch.exp(0.5 * self.log_variance) * noise

    def kl(self) -> Tensor:
        """KL(q(z|x) || N(0, 1)) per image and latent in nats, [B, D]."""
        return 0.5 * (self.mean.square() + self.log_variance.exp() - 1.0 - self.log_variance)


class Encoders(nn.Module, ABC):
    """The encoders of all groups: images [B, C, H, W] to the `Posterior` of all latents, [B, D] each.

    Attributes:
        groups: one module for each encoder group. Its parameters learn at the rate of the group.
    """

    groups: nn.ModuleList


class Networks(ABC):
    """A family of networks: it makes encoders and a decoder for a shape of images and numbers of latents."""

    @abstractmethod
    def check(self, groups: int, image_size: int) -> None:
        """Raise `DeftError` if the networks do not take square images of `image_size`, or so many encoder groups."""

    @abstractmethod
    def encoders(self, image_shape: tuple[int, int, int], latents: Sequence[int]) -> Encoders:
        """Make the encoders of the groups.

        Args:
            image_shape: channels, height and width.
            latents: number of latents of each group, [G].

        Raises:
            DeftError: for images of a size that the networks do not take, or too many groups.
        """

    @abstractmethod
    def decoder(self, image_shape: tuple[int, int, int], latents: int) -> nn.Module:
        """Make a decoder from latents [B, D] to logits [B, C, H, W]. Raises `DeftError` as `encoders` does."""


def initialise(module: nn.Module) -> None:
    """Set Glorot uniform weights (Glorot & Bengio 2010) and zero biases, from torch's global generator.

    The paper names no initialisation. This one is the default of the framework that the public study of Locatello et
    al. 2019 used. It matters: PyTorch's default weights are smaller, and under the high pressure of the first stage
    they learn the positions half as well in the same number of steps.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

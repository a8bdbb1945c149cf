"""Residual networks, a common choice for 3D scenes and photographs (He et al. 2016), without normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from deft_lightning.common import checks
from deft_lightning.model.networks.base import Networks, Posterior, check_channels

HIDDEN = 256
"""Units of the fully connected layers."""


class Residual(Networks):
    """For each halving of the images, down to 4 x 4, a convolution of stride 2 and a residual block; and the same back.

    Blocks have no normalisation and begin as the identity, so that a deep network learns from the first step.

    Args:
        channels: beside the image; all other layers have twice as many. An encoder divides them by the number of
            groups, as `Burgess` does.

    Raises:
        DeftError: unless `channels` is a whole number from 1 up.
    """

    sizes: ClassVar[tuple[int, ...] | None] = (32, 64, 128)

    def __init__(self, channels: int = 32) -> None:
        self.channels = checks.whole("networks.channels", channels, 1)

    def check(self, groups: int, image_size: int) -> None:
        super().check(groups, image_size)
        check_channels(groups, self.channels)

    def encoder(self, image_shape: tuple[int, int, int], latents: int, groups: int) -> nn.Module:
        return ResidualEncoder(image_shape[0], self._widths(image_shape, groups), latents)

    def decoder(self, image_shape: tuple[int, int, int], latents: int) -> nn.Module:
        self.check(1, self.size(image_shape))
        return ResidualDecoder(image_shape[0], self._widths(image_shape, 1)[::-1], latents)

    def initialise(self, model: nn.Module) -> None:
        super().initialise(model)
        for module in model.modules():
            if isinstance(module, ResidualBlock):
                nn.init.zeros_(module.second.weight)

    def _widths(self, image_shape: tuple[int, int, int], groups: int) -> list[int]:
        """Channels at every size, from the image to 4 x 4."""
        halvings = (image_shape[1] // 4).bit_length() - 1
        narrow = self.channels // groups
        return [narrow, *[2 * narrow] * (halvings - 1)]


class ResidualBlock(nn.Module):
    """x + f(x), [B, C, H, W], where f is a ReLU and a convolution, twice."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.second = nn.Conv2d(channels, channels, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(F.relu(x))))


class ResidualEncoder(nn.Module):
    """Images [B, C, H, W] to the `Posterior` of its latents, [B, latents] each."""

    def __init__(self, image_channels: int, channels: Sequence[int], latents: int) -> None:
        super().__init__()
        halvings = (
            layer
            for c_in, c_out in pairwise([image_channels, *channels])
            for layer in (nn.Conv2d(c_in, c_out, kernel_size=4, stride=2, padding=1), ResidualBlock(c_out))
        )
        self.layers = nn.Sequential(
            *halvings,  # [B, c, H/2, W/2] to [B, c, 4, 4]
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(channels[-1] * 4 * 4, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, 2 * latents),
        )

    def forward(self, images: Tensor) -> Posterior:
        return Posterior(*self.layers(images).chunk(2, dim=1))


class ResidualDecoder(nn.Module):
    """Latents [B, D] to the parameters of the likelihood, [B, C, H, W], one for every pixel and channel."""

    def __init__(self, image_channels: int, channels: Sequence[int], latents: int) -> None:
        super().__init__()
        doublings = (
            layer
            for c_in, c_out in pairwise([*channels, image_channels])
            for layer in (
                ResidualBlock(c_in),
                nn.ReLU(),
                nn.ConvTranspose2d(c_in, c_out, kernel_size=4, stride=2, padding=1),
            )
        )
        self.layers = nn.Sequential(
            nn.Linear(latents, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, channels[0] * 4 * 4),
            nn.Unflatten(1, (channels[0], 4, 4)),
            *doublings,  # [B, c, 8, 8] to [B, C, H, W]
        )

    def forward(self, latents: Tensor) -> Tensor:
        output: Tensor = self.layers(latents)
        return output

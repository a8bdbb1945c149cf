"""Stride-2 convolutions and transposed convolutions, after Burgess et al. 2018 and section 6 of the paper.

Encoder groups are independent networks that share no parameters, but they run as one. `GroupedEncoder.forward`
concatenates their kernels: into one dense convolution in the first layer, whose input all groups share, and into
grouped convolutions in the others. The result is the same, and on a CPU it takes about half the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deft_lightning.model.networks.base import Encoders, Networks, Posterior, check_channels
from deft_lightning.model.networks.layers import (
    convolution_relu,
    transposed_convolution,
    transposed_convolution_relu,
)

LAYERS = {32: 3, 64: 4, 128: 5}
"""Stride-2 layers by the size of the images: they lead to 4 x 4 and back."""


@dataclass(frozen=True)
class Convolutional(Networks):
    """Networks of convolutions with stride 2, for square images of 32, 64 or 128 pixels.

    Images of 128 x 128 have one layer more on the side of the image, with the channels of the layer beside it; images
    of 32 x 32 have one layer less there.

    Attributes:
        encoder_channels: output channels of the four convolutions of the encoder for images of 64 x 64, divided among
            the groups.
        decoder_channels: input channels of the four transposed convolutions of the decoder for images of 64 x 64.
        hidden: units of the fully connected layer; every group has as many.
    """

    sizes: ClassVar[tuple[int, ...] | None] = tuple(LAYERS)
    encoder_channels: tuple[int, ...]
    decoder_channels: tuple[int, ...]
    hidden: int = 256

    def check(self, groups: int, image_size: int) -> None:
        super().check(groups, image_size)
        check_channels(groups, min(self.encoder_channels))

    def encoder(self, image_shape: tuple[int, int, int], latents: int, groups: int) -> Encoder:
        channels = [c // groups for c in self._for_size(self.encoder_channels[::-1], image_shape)[::-1]]
        return Encoder(image_shape[0], channels, self.hidden, latents)

    def join(self, encoders: Sequence[nn.Module]) -> GroupedEncoder:
        return GroupedEncoder(encoders)

    def decoder(self, image_shape: tuple[int, int, int], latents: int) -> Decoder:
        self.check(1, self.size(image_shape))
        return Decoder(image_shape[0], self._for_size(self.decoder_channels, image_shape), self.hidden, latents)

    def _for_size(self, channels: tuple[int, ...], image_shape: tuple[int, int, int]) -> tuple[int, ...]:
        """`channels`, from those beside the latents to those beside the image, in as many layers as the size needs."""
        return (channels + channels[-1:])[: LAYERS[self.size(image_shape)]]


class Burgess(Convolutional):
    """The networks of section 6 of the paper and of Burgess et al. 2018, with 32 channels in every layer."""

    def __init__(self) -> None:
        super().__init__((32, 32, 32, 32), (32, 32, 32, 32))


class Locatello(Convolutional):
    """The wider networks of the public study of Locatello et al. 2019."""

    def __init__(self) -> None:
        super().__init__((32, 32, 64, 64), (64, 64, 32, 32))


class Encoder(nn.Module):
    """One encoder group: images [B, C, H, W] to the `Posterior` of its latents, [B, latents] each."""

    def __init__(self, image_channels: int, channels: Sequence[int], hidden: int, latents: int) -> None:
        super().__init__()
        sizes = [image_channels, *channels]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(c_in, c_out, kernel_size=4, stride=2, padding=1) for c_in, c_out in pairwise(sizes)
        )
        self.hidden = nn.Linear(channels[-1] * 4 * 4, hidden)
        self.head = nn.Linear(hidden, 2 * latents)

    def forward(self, images: Tensor) -> Posterior:
        """One layer after another, with plain operators. `GroupedEncoder` computes the same for all groups at once."""
        x = images
        for convolution in self.convolutions:
            x = F.relu(convolution(x))  # [B, c, H/2, W/2] to [B, c, 4, 4]
        x = F.relu(self.hidden(x.flatten(1)))  # [B, 256]
        return Posterior(*self.head(x).chunk(2, dim=1))  # [B, latents] each


class GroupedEncoder(Encoders):
    """G independent encoders run as one: images [B, C, H, W] to the `Posterior` of all latents, [B, D] each."""

    def forward(self, images: Tensor) -> Posterior:
        """Equal to the outputs of `Encoder.forward` of every group, concatenated."""
        groups: list[Encoder] = list(self.groups)  # type: ignore[arg-type]
        x = images
        for layer in range(len(groups[0].convolutions)):
            convolutions = [cast(nn.Conv2d, group.convolutions[layer]) for group in groups]
            weight = torch.cat([c.weight for c in convolutions])
            bias = torch.cat([cast(Tensor, c.bias) for c in convolutions])
            shared_input = layer == 0  # every group reads the whole image; later layers read the group's channels
            x = convolution_relu(x, weight, bias, groups=1 if shared_input else len(groups))
            # [B, G*c, H/2, W/2] to [B, G*c, 4, 4]
        features = x.flatten(1).chunk(len(groups), dim=1)  # G of [B, c*4*4]
        heads = [
            g.head(F.relu(g.hidden(f))).chunk(2, dim=1) for g, f in zip(groups, features, strict=True)
        ]  # G pairs of [B, latents]
        means, log_variances = zip(*heads, strict=True)
        return Posterior(torch.cat(means, dim=1), torch.cat(log_variances, dim=1))  # [B, D] each


class Decoder(nn.Module):
    """Latents [B, D] to the parameters of the likelihood, [B, C, H, W], one for every pixel and channel."""

    def __init__(self, image_channels: int, channels: Sequence[int], hidden: int, latents: int) -> None:
        super().__init__()
        channels = [*channels, image_channels]
        self.first_channels = channels[0]
        self.hidden = nn.Linear(latents, hidden)
        self.spread = nn.Linear(hidden, channels[0] * 4 * 4)
        self.deconvolutions = nn.ModuleList(
            nn.ConvTranspose2d(c_in, c_out, kernel_size=4, stride=2, padding=1) for c_in, c_out in pairwise(channels)
        )

    def forward(self, latents: Tensor) -> Tensor:
        x = F.relu(self.spread(F.relu(self.hidden(latents))))  # [B, c*4*4]
        x = x.view(-1, self.first_channels, 4, 4)  # [B, c, 4, 4]
        layers: list[nn.ConvTranspose2d] = list(self.deconvolutions)  # type: ignore[arg-type]
        *inner, last = layers
        for deconvolution in inner:
            x = transposed_convolution_relu(x, deconvolution.weight, cast(Tensor, deconvolution.bias))
            # [B, c, 8, 8] to [B, c, H/2, W/2]
        return transposed_convolution(x, last.weight, cast(Tensor, last.bias))  # [B, C, H, W]

"""Four convolutions and four transposed convolutions, after Burgess et al. 2018 and section 6 of the paper.

The encoder groups are independent networks with parameters of their own, but they run as one:
`GroupedEncoder.forward` concatenates their kernels into one dense convolution (the first layer, whose
input all groups share) and grouped convolutions (the others). That is exact, and about twice as fast
on a CPU as one small convolution after another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deft_lightning.common.errors import DeftError
from deft_lightning.model.networks.base import Encoders, Networks, Posterior
from deft_lightning.model.networks.layers import (
    convolution_relu,
    transposed_convolution,
    transposed_convolution_relu,
)

IMAGE_SIZE = 64  # four stride-2 layers lead from 64 x 64 to 4 x 4 and back


@dataclass(frozen=True)
class Convolutional(Networks):
    """Networks of stride-2 convolutions for images of 64 x 64.

    `encoder_channels` are those of the four convolutions, divided among the groups; `decoder_channels` those of the
    input of the four transposed convolutions; `hidden` the units of the fully connected layer, which is not divided.
    """

    encoder_channels: tuple[int, ...]
    decoder_channels: tuple[int, ...]
    hidden: int = 256

    def check(self, groups: int) -> None:
        if min(self.encoder_channels) < groups:
            raise DeftError(
                f"groups.latents names {groups} groups, more than the {min(self.encoder_channels)} channels of "
                "these networks can be divided among: use fewer groups."
            )

    def encoders(self, image_shape: tuple[int, int, int], latents: Sequence[int]) -> GroupedEncoder:
        self.check(len(latents))
        channels = [c // len(latents) for c in self.encoder_channels]
        image_channels = _channels(image_shape)
        return GroupedEncoder([Encoder(image_channels, channels, self.hidden, n) for n in latents])

    def decoder(self, image_shape: tuple[int, int, int], latents: int) -> Decoder:
        return Decoder(_channels(image_shape), self.decoder_channels, self.hidden, latents)


class Burgess(Convolutional):
    """The networks of the paper (section 6) and of Burgess et al. 2018: 32 channels in every layer."""

    def __init__(self) -> None:
        super().__init__((32, 32, 32, 32), (32, 32, 32, 32))


class Locatello(Convolutional):
    """The wider networks of the public study of Locatello et al. 2019."""

    def __init__(self) -> None:
        super().__init__((32, 32, 64, 64), (64, 64, 32, 32))


def _channels(image_shape: tuple[int, int, int]) -> int:
    channels, *size = image_shape
    if size != [IMAGE_SIZE, IMAGE_SIZE]:
        raise DeftError(f"images of {size[0]} x {size[1]} do not fit the networks: resize them to 64 x 64.")
    return channels


class Encoder(nn.Module):
    """One encoder group: image [B, C, 64, 64] to the `Posterior` of its own latents, [B, latents] each."""

    def __init__(self, image_channels: int, channels: Sequence[int], hidden: int, latents: int) -> None:
        super().__init__()
        sizes = [image_channels, *channels]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(c_in, c_out, kernel_size=4, stride=2, padding=1) for c_in, c_out in pairwise(sizes)
        )
        self.hidden = nn.Linear(channels[-1] * 4 * 4, hidden)
        self.head = nn.Linear(hidden, 2 * latents)

    def forward(self, images: Tensor) -> Posterior:
        """The plain path, layer after layer; `GroupedEncoder` gives the same numbers for all groups at once."""
        x = images
        for convolution in self.convolutions:
            x = convolution_relu(
                x, convolution.weight, convolution.bias
            )  # [B, c, 32], [B, c, 16], [B, c, 8], [B, c, 4]
        x = F.relu(self.hidden(x.flatten(1)))  # [B, 256]
        return Posterior(*self.head(x).chunk(2, dim=1))  # [B, latents] each


class GroupedEncoder(Encoders):
    """G independent encoders run as one: image [B, C, 64, 64] to the concatenated `Posterior` [B, sum(latents)]."""

    def __init__(self, encoders: Sequence[Encoder]) -> None:
        super().__init__()
        self.groups = nn.ModuleList(encoders)

    def forward(self, images: Tensor) -> Posterior:
        """Equal to concatenating every group's own `Encoder.forward`."""
        groups: list[Encoder] = list(self.groups)  # type: ignore[arg-type]
        if len(groups) == 1:
            return groups[0](images)
        x = images
        for layer in range(len(groups[0].convolutions)):
            convolutions = [cast(nn.Conv2d, group.convolutions[layer]) for group in groups]
            weight = torch.cat([c.weight for c in convolutions])
            bias = torch.cat([cast(Tensor, c.bias) for c in convolutions])
            shared_input = layer == 0  # every group reads the whole image, then only its own channels
            x = convolution_relu(x, weight, bias, groups=1 if shared_input else len(groups))
            # [B, G*c, 32], [B, G*c, 16], [B, G*c, 8], [B, G*c, 4]
        features = x.flatten(1).chunk(len(groups), dim=1)  # G of [B, c*4*4]
        heads = [
            g.head(F.relu(g.hidden(f))).chunk(2, dim=1) for g, f in zip(groups, features, strict=True)
        ]  # G pairs of [B, latents]
        means, log_variances = zip(*heads, strict=True)
        return Posterior(torch.cat(means, dim=1), torch.cat(log_variances, dim=1))  # [B, D] each


class Decoder(nn.Module):
    """Latents [B, D] to the logits of a Bernoulli per pixel and channel, [B, C, 64, 64]."""

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
        *inner, last = self.deconvolutions
        for deconvolution in inner:
            x = transposed_convolution_relu(x, deconvolution.weight, deconvolution.bias)
            # [B, c, 8], [B, c, 16], [B, c, 32]
        return transposed_convolution(x, last.weight, last.bias)  # [B, C, 64, 64]

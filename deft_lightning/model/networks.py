"""The grouped encoder and the decoder of DEFT, after Burgess et al. 2018 and section 6 of the paper.

The groups of an encoder are independent networks with parameters of their own, but they run as one:
`GroupedEncoder.forward` concatenates their kernels into one dense convolution (the first layer, whose
input all groups share) and grouped convolutions (the others). That is exact, and about twice as fast
on a CPU as one small convolution after another.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deft_lightning.common.errors import DeftError

IMAGE_SIZE = 64  # four stride-2 layers lead from 64 x 64 to 4 x 4 and back
WIDTHS = {
    # name: encoder channels, decoder channels of the first three transposed convolutions and their input
    "narrow": ((32, 32, 32, 32), (32, 32, 32, 32)),  # section 6 of the paper
    "wide": ((32, 32, 64, 64), (64, 64, 32, 32)),  # the public study of Locatello et al. 2019
}
HIDDEN = 256


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


class Encoder(nn.Module):
    """One encoder group: image [B, C, 64, 64] to the `Posterior` of its own latents, [B, latents] each."""

    def __init__(self, image_channels: int, channels: Sequence[int], latents: int) -> None:
        super().__init__()
        sizes = [image_channels, *channels]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(c_in, c_out, kernel_size=4, stride=2, padding=1) for c_in, c_out in pairwise(sizes)
        )
        self.hidden = nn.Linear(channels[-1] * 4 * 4, HIDDEN)
        self.head = nn.Linear(HIDDEN, 2 * latents)

    def forward(self, images: Tensor) -> Posterior:
        """The plain path, layer after layer; `GroupedEncoder` gives the same numbers for all groups at once."""
        x = images
        for convolution in self.convolutions:
            x = F.relu(convolution(x))  # [B, c, 32], [B, c, 16], [B, c, 8], [B, c, 4]
        x = F.relu(self.hidden(x.flatten(1)))  # [B, 256]
        return Posterior(*self.head(x).chunk(2, dim=1))  # [B, latents] each


class GroupedEncoder(nn.Module):
    """G independent encoders run as one: image [B, C, 64, 64] to the concatenated `Posterior` [B, sum(latents)].

    The channels of every convolution are divided by G, the fully connected layer is not (section 6).
    Raises `DeftError` when the channels do not leave at least one to every group.
    """

    def __init__(self, image_channels: int, latents: Sequence[int], width: str = "narrow") -> None:
        super().__init__()
        channels = [c // len(latents) for c in encoder_channels(width)]
        if min(channels) < 1:
            raise DeftError(
                f"groups.latents names {len(latents)} groups, more than the {min(encoder_channels(width))} "
                f"channels of the {width} encoder can be divided among: use fewer groups."
            )
        self.groups = nn.ModuleList(Encoder(image_channels, channels, n) for n in latents)

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
            x = F.relu(
                F.conv2d(x, weight, bias, stride=2, padding=1, groups=1 if shared_input else len(groups))
            )  # [B, G*c, 32], [B, G*c, 16], [B, G*c, 8], [B, G*c, 4]
        features = x.flatten(1).chunk(len(groups), dim=1)  # G of [B, c*4*4]
        heads = [
            g.head(F.relu(g.hidden(f))).chunk(2, dim=1) for g, f in zip(groups, features, strict=True)
        ]  # G pairs of [B, latents]
        means, log_variances = zip(*heads, strict=True)
        return Posterior(torch.cat(means, dim=1), torch.cat(log_variances, dim=1))  # [B, D] each


class Decoder(nn.Module):
    """Latents [B, D] to the logits of a Bernoulli per pixel and channel, [B, C, 64, 64]."""

    def __init__(self, image_channels: int, latents: int, width: str = "narrow") -> None:
        super().__init__()
        channels = [*WIDTHS[width][1], image_channels]
        self.first_channels = channels[0]
        self.hidden = nn.Linear(latents, HIDDEN)
        self.spread = nn.Linear(HIDDEN, channels[0] * 4 * 4)
        self.deconvolutions = nn.ModuleList(
            nn.ConvTranspose2d(c_in, c_out, kernel_size=4, stride=2, padding=1) for c_in, c_out in pairwise(channels)
        )

    def forward(self, latents: Tensor) -> Tensor:
        x = F.relu(self.spread(F.relu(self.hidden(latents))))  # [B, c*4*4]
        x = x.view(-1, self.first_channels, 4, 4)  # [B, c, 4, 4]
        *inner, last = self.deconvolutions
        for deconvolution in inner:
            x = F.relu(deconvolution(x))  # [B, c, 8], [B, c, 16], [B, c, 32]
        return last(x)  # [B, C, 64, 64]


def initialise(module: nn.Module) -> None:
    """Glorot uniform weights and zero biases in every layer (Glorot & Bengio 2010), from torch's global generator.

    The paper names none; this is what the public study of Locatello et al. 2019 has by its framework's default.
    It matters: under the high pressure of the first stage PyTorch's own, smaller weights learn the positions
    half as well in the same number of steps.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def encoder_channels(width: str) -> tuple[int, ...]:
    """Channels of the four convolutions before they are divided among the groups.

    Raises `DeftError` for an unknown width.
    """
    if not isinstance(width, str) or width not in WIDTHS:
        raise DeftError(f"groups.width is {width!r}: use one of {', '.join(WIDTHS)}.")
    return WIDTHS[width][0]

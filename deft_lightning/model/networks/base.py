"""The contract of networks. A family makes two kinds of module, and DEFT makes a model of them:

    encoder   images [B, C, H, W]  ->  `Posterior` of its own latents, mean and log variance [B, latents] each
    decoder   latents [B, D]       ->  parameters of the likelihood [B, C, H, W], one for every pixel and channel

DEFT has one encoder for each group. A family of one's own is a subclass of `Networks` with the methods `encoder` and
`decoder`. Its modules must compute the same in training as in evaluation, thus without batch normalisation or dropout.
"""

from __future__ import annotations

import traceback
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from deft_lightning.common.errors import DeftError


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


class Encoders(nn.Module):
    """The encoders of all groups: images [B, C, H, W] to the `Posterior` of all latents, [B, D] each.

    Attributes:
        groups: one module for each encoder group. Its parameters learn at the rate of the group.
    """

    groups: nn.ModuleList

    def __init__(self, encoders: Sequence[nn.Module]) -> None:
        super().__init__()
        self.groups = nn.ModuleList(encoders)

    def forward(self, images: Tensor) -> Posterior:
        means, log_variances = zip(*(group(images) for group in self.groups), strict=True)
        return Posterior(torch.cat(means, dim=1), torch.cat(log_variances, dim=1))


class Networks(ABC):
    """A family of networks.

    Attributes:
        sizes: of the square images that it takes; None for images of any shape.
    """

    sizes: ClassVar[tuple[int, ...] | None] = None

    @abstractmethod
    def encoder(self, image_shape: tuple[int, int, int], latents: int, groups: int) -> nn.Module:
        """Make the encoder of one group, from images [B, C, H, W] to a `Posterior`, [B, latents] each.

        Args:
            image_shape: channels, height and width.
            latents: of this group.
            groups: number of encoder groups, for a family that divides its channels among them.
        """

    @abstractmethod
    def decoder(self, image_shape: tuple[int, int, int], latents: int) -> nn.Module:
        """Make the decoder, from latents [B, D] to parameters of the likelihood [B, C, H, W]. `latents` is D."""

    def check(self, groups: int, image_size: int) -> None:
        """Raise `DeftError` if it does not take square images of `image_size`, or so many encoder groups."""
        if self.sizes is not None and image_size not in self.sizes:
            raise DeftError(
                f"images of {image_size} x {image_size} do not fit the networks, which take sizes of "
                f"{', '.join(map(str, self.sizes))}: resize them, for images of your own with data.image_size=64."
            )

    def join(self, encoders: Sequence[nn.Module]) -> Encoders:
        """The encoders of all groups as one module; a family may have one that is faster, with the same result."""
        return Encoders(encoders)

    def initialise(self, model: nn.Module) -> None:
        """Set the first weights of a model, from torch's global generator: by default those of `initialise`."""
        initialise(model)

    def encoders(self, image_shape: tuple[int, int, int], latents: Sequence[int]) -> Encoders:
        """The encoders of groups with so many `latents`, [G]. Raises `DeftError` as `check` does."""
        self.check(len(latents), self.size(image_shape))
        return self.join([self.encoder(image_shape, count, len(latents)) for count in latents])

    def size(self, image_shape: tuple[int, int, int]) -> int:
        """The height of images. Raises `DeftError` if they are not square and `sizes` is given."""
        _, height, width = image_shape
        if self.sizes is not None and height != width:
            raise DeftError(f"images of {height} x {width} do not fit the networks: crop or resize them to a square.")
        return height


def check_channels(groups: int, channels: int) -> None:
    """Raise `DeftError` if there are more encoder groups than `channels` that are divided among them."""
    if channels < groups:
        raise DeftError(
            f"groups.latents has {groups} groups, more than the {channels} channels that these networks divide among "
            "them: use fewer groups."
        )


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


def check_shapes(
    networks: Networks, encoder: Encoders, decoder: nn.Module, shape: Sequence[int], latents: Sequence[int]
) -> None:
    """Raise `DeftError` unless the modules of `networks` keep the contract for images of `shape`.

    Two black images and two codes of zeros pass through them. `latents` are those of the groups, [G].
    """
    owner = f"networks {type(networks).__module__}:{type(networks).__qualname__}"
    images, codes = torch.zeros(2, *shape), torch.zeros(2, sum(latents))
    for module, count in zip(encoder.groups, latents, strict=True):
        found = _shapes(module, images, f"the encoder of {owner}")
        if found != [[2, count]] * 2:
            raise DeftError(
                f"the encoder of {owner} gives the shapes {found} for images {list(images.shape)}: return mean and log "
                f"variance of its {count} latents, [B, {count}] each."
            )
    found = _shapes(decoder, codes, f"the decoder of {owner}")
    if found != [list(images.shape)]:
        raise DeftError(
            f"the decoder of {owner} gives the shapes {found} for latents {list(codes.shape)}: return one number for "
            f"every pixel and channel, [B, {', '.join(map(str, shape))}]."
        )


@torch.no_grad()
def _shapes(module: nn.Module, values: Tensor, what: str) -> list[list[int]]:
    """The shapes of what `module` returns for `values`: of a tensor, or of each in a tuple."""
    training = module.training
    try:
        output: Any = module.eval()(values)
    except Exception as error:  # whatever a network of the user's own raises
        place = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in place if "site-packages" not in frame.filename] or place
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
        raise DeftError(
            f"{what} fails for the shape {list(values.shape)} ({reason}, {Path(own[-1].filename).name} line "
            f"{own[-1].lineno}): make it take this shape."
        ) from error
    finally:
        module.train(training)
    return [list(part.shape) for part in (output if isinstance(output, tuple) else (output,))]

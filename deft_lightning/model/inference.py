"""What a trained model is used for: codes of images, images of codes, reconstructions and traversals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deft_lightning.common.errors import DeftError
from deft_lightning.model.groups import Groups
from deft_lightning.model.likelihoods import Likelihood
from deft_lightning.model.networks import Posterior

BATCH = 256
"""Images that pass through the networks at once."""
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a grey value (ITU-R BT.601), as Pillow's."""

Images = Tensor | NDArray[Any]


class Inference(pl.LightningModule):
    """The methods of a model that take images or codes of any number, on any device, and compute no gradients.

    They work in eval mode and in batches, and return tensors on the device of what they were given. Images are
    float in [0, 1] or uint8, [N, C, H, W]; grey ones are given to a model of RGB images as three equal channels, and
    RGB ones to a model of grey images as grey values. All raise `DeftError` for a wrong shape, type or range.
    """

    image_shape: tuple[int, int, int]
    groups: Groups
    decoder: nn.Module
    likelihood: Likelihood
    infer: Callable[[Tensor], Posterior]
    latent_names: list[str]
    """A name for every latent, [D]: the factor that it encodes, where a run has measured that."""

    def encode(self, images: Images) -> Posterior:
        """The posterior of `images` [N, C, H, W]: mean and log variance, [N, D]."""
        images = self._images(images)
        parts = self._compute(self.infer, images, self._prepared)
        return Posterior(*(torch.cat(values).to(images.device) for values in zip(*parts, strict=True)))

    def decode(self, latents: Tensor | NDArray[Any]) -> Tensor:
        """The images that the likelihood expects of `latents` [N, D], its mean, as [N, C, H, W] in [0, 1]."""
        latents = self._codes(latents)
        parts = self._compute(
            lambda batch: self.likelihood.mean(self.decoder(batch).float()), latents, torch.Tensor.float
        )
        return torch.cat(parts).to(latents.device)

    def reconstruct(self, images: Images) -> Tensor:
        """The images decoded from the mean codes of `images` [N, C, H, W], as [N, C, H, W] in [0, 1]."""
        return self.decode(self.encode(images).mean)

    def traverse(self, images: Images, latent: int | str, values: Sequence[float]) -> Tensor:
        """Images whose code has one latent set to each of V `values` in turn, [N, V, C, H, W] in [0, 1].

        The other latents keep the mean code of `images` [N, C, H, W]. `latent` is a number from 0 or one of
        `latent_names`.
        """
        codes = self.encode(images).mean
        try:
            numbers = torch.as_tensor(values, dtype=codes.dtype, device=codes.device)
        except (TypeError, ValueError):
            numbers = torch.empty(0)
        if numbers.dim() != 1 or not len(numbers):
            raise DeftError(f"the values of a traversal are {values!r}: give a list of numbers.")
        moved = codes.repeat_interleave(len(numbers), dim=0)  # [N * V, D]
        moved[:, self._latent(latent)] = numbers.repeat(len(codes))
        return self.decode(moved).unflatten(0, (len(codes), len(numbers)))

    def predict_step(self, batch: Any, batch_idx: int) -> Posterior:
        """The posterior of a batch of a loader, for `Trainer.predict`. Labels beside the images are ignored."""
        return self.encode(batch if isinstance(batch, Tensor) else batch[0])

    def _latent(self, latent: int | str) -> int:
        if latent in self.latent_names:
            return self.latent_names.index(str(latent))
        count = sum(self.groups.latents)
        if isinstance(latent, int | np.integer) and 0 <= latent < count:
            return int(latent)
        raise DeftError(
            f"there is no latent {latent!r}: give a number from 0 to {count - 1}, or one of "
            f"{', '.join(self.latent_names)}."
        )

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Eval mode, without gradients, inside the block."""
        training = self.training
        self.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.train(training)

    def _compute(self, function: Callable[[Tensor], Any], values: Tensor, prepare: Callable[[Tensor], Tensor]) -> list:
        """`function` of `values` in batches, on the device of the model, in eval mode and without gradients."""
        with self.evaluating():
            batches = values.split(BATCH) if len(values) else [values]
            return [function(prepare(batch.to(self.device))) for batch in batches]

    def _images(self, images: Images) -> Tensor:
        """Check the type and the shape of images."""
        images = _tensor(images)
        channels, height, width = self.image_shape
        shape = list(images.shape)
        accepted = {1, 3} if channels in (1, 3) else {channels}  # grey and RGB are converted
        if images.dim() != 4 or shape[2:] != [height, width] or shape[1] not in accepted:
            raise DeftError(
                f"the images have the shape {shape}: this model takes [N, C, {height}, {width}] with C = {channels}; "
                "resize or permute them, and write image[None] for a single one."
            )
        if images.dtype != torch.uint8 and not images.is_floating_point():
            raise DeftError(f"the images are {images.dtype}: give floats in [0, 1], or uint8.")
        return images

    def _prepared(self, images: Tensor) -> Tensor:
        """Checked images as the networks take them, float32 [B, C, H, W]. Raises `DeftError` for a wrong range."""
        images = images / 255 if images.dtype == torch.uint8 else images.float()
        low, high = map(float, torch.aminmax(images)) if images.numel() else (0.0, 0.0)
        if not (low >= 0 and high <= 1):  # NaN is neither
            raise DeftError(f"the images range from {low:g} to {high:g}: give floats in [0, 1], or uint8.")
        channels = self.image_shape[0]
        if images.shape[1] == 1 < channels:
            images = images.expand(-1, channels, -1, -1)
        elif images.shape[1] == 3 > channels:
            weights = torch.tensor(LUMA, device=images.device).view(3, 1, 1)
            images = (images * weights).sum(dim=1, keepdim=True)
        return images.contiguous(memory_format=torch.channels_last)

    def _codes(self, latents: Tensor | NDArray[Any]) -> Tensor:
        latents = _tensor(latents)
        count = sum(self.groups.latents)
        if latents.dim() != 2 or latents.shape[1] != count:
            raise DeftError(f"the latents have the shape {list(latents.shape)}: this model decodes [N, {count}].")
        return latents


def _tensor(values: Images) -> Tensor:
    """`values` as a tensor; arrays that are views with negative strides, such as flipped ones, are copied."""
    return torch.as_tensor(np.ascontiguousarray(values) if isinstance(values, np.ndarray) else values)


def name_latents(names: Sequence[str], latents: int) -> list[str]:
    """Unique names of `latents` latents from those of the factors that they encode, "" for none: [D] to [D].

    The first latent of a factor has the name of the factor, further ones also their number; without a factor a latent
    is called "latent 7".
    """
    unique: list[str] = []
    for number in range(latents):
        name = names[number] if number < len(names) else ""
        plain = f"latent {number}"
        if name:
            unique.append(name if name not in unique else f"{name} ({plain})")
        else:
            unique.append(plain)
    return unique

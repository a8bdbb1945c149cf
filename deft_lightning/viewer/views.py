"""From an image to its code as bars, and from the positions of sliders to an image: no page, no state."""

from __future__ import annotations

import io
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from deft_lightning.common.errors import DeftError
from deft_lightning.common.pictures import rgb
from deft_lightning.data.custom.folder import read_picture
from deft_lightning.data.custom.pixels import Colour, fit
from deft_lightning.data.datamodule import FactorDataModule
from deft_lightning.evaluation.codes import MIN_KL
from deft_lightning.model.module import DEFT
from deft_lightning.training import figures
from deft_lightning.viewer.runs import Subject

DECIMALS = 2
"""Of the positions of sliders."""
SPAN, STEPS, SCALE = 2.0, 17, 4
"""A traversal has so many values from -SPAN to SPAN, in standard deviations of the prior, and is drawn enlarged."""


@dataclass(frozen=True)
class Bar:
    """One latent of the code of an image: its posterior, and its KL in nats.

    Attributes:
        latent: number, from 0.
        name: after the factor that it encodes.
        mean: of the posterior.
        deviation: standard deviation of the posterior.
        kl: of this image, in nats.
        live: whether the KL, averaged over images, is at least `MIN_KL`.
    """

    latent: int
    name: str
    mean: float
    deviation: float
    kl: float
    live: bool


def bars(subject: Subject, image: Tensor) -> list[Bar]:
    """The code of `image` [1, C, S, S]: live latents first, those of highest average KL at the top."""
    posterior = subject.model.encode(image)
    mean, deviation, kl = posterior.mean[0], (posterior.log_variance[0] / 2).exp(), posterior.kl()[0]
    live = subject.kl >= MIN_KL
    order = np.lexsort((-np.where(live, subject.kl, 0), ~live))  # the others in order of their numbers
    return [
        Bar(j, subject.model.latent_names[j], float(mean[j]), float(deviation[j]), float(kl[j]), bool(live[j]))
        for j in order.tolist()
    ]


def decoded(model: DEFT, latents: Mapping[int, float]) -> Tensor:
    """The image [C, S, S] in [0, 1] of a value for every latent. Raises `DeftError` where one is missing."""
    return model.decode(_code(latents))[0]


def _code(latents: Mapping[int, float]) -> Tensor:
    """Values by the numbers of their latents as a code [1, D]."""
    return torch.tensor([[latents[j] for j in sorted(latents)]], dtype=torch.float32)


def from_data(subject: Subject, index: int) -> Tensor:
    """Image `index` of the data set, [1, C, S, S] in [0, 1]. Raises `DeftError` where there is none."""
    if subject.data is None:
        raise DeftError(subject.problem)
    count = len(subject.data.dataset)
    if not 0 <= index < count:
        raise DeftError(f"there is no image {index}: give a number from 0 to {count - 1}.")
    return image_of(subject.data, index)


def image_of(data: FactorDataModule, index: int) -> Tensor:
    """One image, [1, C, S, S] in [0, 1]. Its nuisances, such as colours, are always the same, and its own."""
    return next(data.evaluation_images(torch.tensor([index]), seed=data.seed + index)).cpu()


def from_upload(contents: str, name: str, shape: tuple[int, int, int], background: Colour) -> Tensor:
    """A dropped picture, uint8 [1, *shape], read as the images of a folder are.

    `contents` is its data URI. Raises `DeftError` when it is not an image.
    """
    try:
        file = io.BytesIO(b64decode(contents.partition(",")[2], validate=True))
    except Base64Error as error:
        raise DeftError(f"{name} did not arrive whole: drop it again.") from error
    file.name = name
    return torch.from_numpy(read_picture(file, shape, background)[None].copy())


def fitted(image: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """An image [1, C, S, S] in [0, 1] as a model of images of `shape` takes it, resized where the size differs."""
    if image.shape[2:] == shape[1:]:
        return image
    return torch.from_numpy(fit(Image.fromarray(rgb(image[0].numpy())), shape).transpose(2, 0, 1)[None].copy())


def png(image: Tensor) -> bytes:
    """An image [C, S, S], in [0, 1] or uint8, as a PNG file of the same size, without loss."""
    pixels = image / 255 if image.dtype == torch.uint8 else image
    file = io.BytesIO()
    Image.fromarray(rgb(pixels.numpy())).save(file, "PNG")
    return file.getvalue()


def traversal(model: DEFT, latents: Mapping[int, float], latent: int) -> bytes:
    """A GIF of one latent going from -SPAN to SPAN and back, the others as in `latents`."""
    codes = _code(latents).repeat(STEPS, 1)
    codes[:, latent] = torch.linspace(-SPAN, SPAN, STEPS)
    file = io.BytesIO()
    figures.traversal_animation(model.decode(codes)[None].numpy(), [model.latent_names[latent]], SCALE).save(file)
    return file.getvalue()

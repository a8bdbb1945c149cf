"""Pictures of a data set: a strip for each factor and a grid of random samples."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from deft_lightning.common.errors import DeftError
from deft_lightning.common.seeding import Stream, generator
from deft_lightning.data.base import FactorDataset

_GAP = 2  # pixels between images
_GREY = 128  # colour of the gaps


def show(dataset: FactorDataset, folder: Path, seed: int = 0) -> list[Path]:
    """Write `<name>_<factor>.png` for every factor and `<name>_samples.png` to `folder`; returns the paths.

    A strip goes through all values of one factor while the other factors, at the middle of their ranges, and
    the nuisances stay as they are. Data without a full grid of factors have no strips. What a file name cannot
    have is _ in it. Raises DeftError when the pictures cannot be written.
    """
    names, pictures = ["samples"], [_grid(_samples(dataset, 8 * 16, seed), columns=16)]
    if dataset.space is not None:
        for place, name in enumerate(dataset.space.factor_names):
            strip = _strip(dataset, place, seed)
            names.append(name)
            pictures.append(_grid(strip, columns=len(strip)))
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, picture in zip(_file_names(names), pictures, strict=True):
            paths.append(folder / f"{dataset.name}_{name}.png")
            picture.save(paths[-1])
    except OSError as error:
        raise DeftError(f"cannot write pictures to {folder}: {error.strerror or error}") from error
    return paths


def _file_names(names: list[str]) -> list[str]:
    """The names with letters, digits, dots, dashes and underscores only, and no two alike on any file system."""
    safe: list[str] = []
    for name in names:
        plain = re.sub(r"[^\w.-]+", "_", name)[:60]
        while plain.casefold() in {other.casefold() for other in safe}:
            plain += "_"
        safe.append(plain)
    return safe


def _samples(dataset: FactorDataset, count: int, seed: int) -> Tensor:
    indices = torch.randint(len(dataset), (count,), generator=generator(seed, Stream.EVALUATION, 3))
    return dataset.images(indices, generator(seed, Stream.EVALUATION, 4, device=dataset.device))


def _strip(dataset: FactorDataset, place: int, seed: int) -> Tensor:
    """One image for each value of a factor, float32 [values, C, H, W]."""
    assert dataset.space is not None
    sizes = dataset.space.factor_sizes
    factors = torch.tensor([size // 2 for size in sizes]).repeat(sizes[place], 1)
    factors[:, place] = torch.arange(sizes[place])
    # One image at a time, so that all of them draw the same nuisances.
    return torch.cat([
        dataset.images(index, generator(seed, Stream.EVALUATION, 5, device=dataset.device))
        for index in dataset.space.indices(factors).split(1)
    ])  # fmt: skip


def _grid(images: Tensor, columns: int) -> Image.Image:
    """Images [N, C, H, W] side by side, row by row."""
    pixels = (images.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    if pixels.shape[3] == 1:
        pixels = pixels.repeat(3, axis=3)
    count, height, width, _ = pixels.shape
    rows = -(-count // columns)
    canvas = np.full((rows * (height + _GAP) + _GAP, columns * (width + _GAP) + _GAP, 3), _GREY, np.uint8)
    for number, image in enumerate(pixels):
        top, left = (_GAP + place * (side + _GAP) for place, side in
                     zip(divmod(number, columns), (height, width), strict=True))  # fmt: skip
        canvas[top : top + height, left : left + width] = image
    return Image.fromarray(canvas)

"""Pictures of a data set: a strip for every factor and a grid of random samples."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from deft_lightning.common.errors import DeftError
from deft_lightning.common.pictures import mosaic
from deft_lightning.common.seeding import Stream, generator
from deft_lightning.data.base import FactorDataset

ROWS, COLUMNS = 8, 16
"""Of the grid of samples."""


def show(dataset: FactorDataset, folder: Path, seed: int = 0) -> list[Path]:
    """Write `<name>_samples.png`, and `<name>_<factor>.png` for every factor, to `folder`; returns the paths.

    A strip shows all values of one factor; the other factors, at the middle of their ranges, and the nuisances do not
    change. There are no strips without a full grid of factors. Characters that a file name cannot have become _.
    Raises `DeftError` when the pictures cannot be written.
    """
    samples = _samples(dataset, ROWS * COLUMNS, seed)
    names, grids = ["samples"], [samples.unflatten(0, (ROWS, COLUMNS))]
    if dataset.space is not None:
        names += dataset.space.factor_names
        grids += [_strip(dataset, place, seed).unsqueeze(0) for place in range(len(dataset.space.factor_names))]
    paths = [folder / f"{dataset.name}_{name}.png" for name in _file_names(names)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, grid in zip(paths, grids, strict=True):
            Image.fromarray(mosaic(grid.cpu().numpy())).save(path)
    except OSError as error:
        raise DeftError(f"{folder} cannot be written ({error.strerror or error}): choose another folder.") from error
    return paths


def _file_names(names: list[str]) -> list[str]:
    """The names with letters, digits, dots, dashes and underscores only, distinct on any file system."""
    safe: list[str] = []
    for name in names:
        plain = re.sub(r"[^\w.-]+", "_", name)[:60]
        while plain.casefold() in {other.casefold() for other in safe}:
            plain += "_"
        safe.append(plain)
    return safe


def _samples(dataset: FactorDataset, count: int, seed: int) -> Tensor:
    """Random images, float32 [count, C, H, W]."""
    indices = torch.randint(len(dataset), (count,), generator=generator(seed, Stream.EVALUATION, 3))
    return dataset.images(indices, generator(seed, Stream.EVALUATION, 4, device=dataset.device))


def _strip(dataset: FactorDataset, place: int, seed: int) -> Tensor:
    """One image for each value of the factor at `place`, float32 [values, C, H, W]."""
    assert dataset.space is not None
    sizes = dataset.space.factor_sizes
    factors = torch.tensor([size // 2 for size in sizes]).repeat(sizes[place], 1)
    factors[:, place] = torch.arange(sizes[place])
    # One image at a time, each with a new generator of the same seed, so that all have the same nuisances.
    return torch.cat([
        dataset.images(index, generator(seed, Stream.EVALUATION, 5, device=dataset.device))
        for index in dataset.space.indices(factors).split(1)
    ])  # fmt: skip

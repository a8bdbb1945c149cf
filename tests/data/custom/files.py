"""Twelve grey images with a full grid of factors, and files of them."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import torch
from PIL import Image

from deft_lightning.data import CustomImages

RANDOM = torch.Generator()
COUNT = 12
GREY = (np.arange(COUNT, dtype=np.uint8) * 20)[:, None, None] * np.ones((1, 64, 64), np.uint8)
GRID = np.stack(np.unravel_index(np.arange(COUNT), (3, 2, 2)), axis=1)  # [12, 3]


def write(path: Path, **arrays: np.ndarray) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for key, array in arrays.items():
                file[key] = array.tolist() if array.dtype.kind == "U" else array  # HDF5 has its own strings
    return path


def pixels(dataset: CustomImages) -> np.ndarray:
    return dataset.images(torch.arange(len(dataset)), RANDOM).mul(255).round().numpy().astype(int)


def factors(dataset: CustomImages) -> list[list[int]]:
    values = dataset.factors(torch.arange(len(dataset)))
    assert values is not None
    assert values.dtype == torch.int64
    return values.tolist()


def folder(path: Path, images: dict[str, np.ndarray]) -> Path:
    for name, image in images.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path / name)
    return path

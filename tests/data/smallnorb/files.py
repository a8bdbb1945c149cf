"""SmallNORB files in the published binary format, over a space of 96 images."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import torch

from deft_lightning.data import FactorSpace, SmallNORB
from deft_lightning.data.smallnorb import renderer
from deft_lightning.data.smallnorb.published import CHUNKS

SPACE = FactorSpace(renderer.SPACE.names, (2, 4, 2, 3, 2), nuisance=("instance",))
INSTANCES = ((2, 3), (0, 1))  # of the two chunks; as in the published files, instance 0 is not in the first
MAGIC = {np.dtype("u1"): 0x1E3D4C55, np.dtype("<i4"): 0x1E3D4C54}
RANDOM = torch.Generator()


class Small(SmallNORB):
    """SmallNORB with 96 images."""

    space = SPACE


def matrix(values: np.ndarray) -> bytes:
    """The published format, written from its description."""
    sizes = [*values.shape, 1, 1][: max(3, values.ndim)]
    head = struct.pack(f"<Ii{len(sizes)}i", MAGIC[values.dtype], values.ndim, *sizes)
    return head + values.tobytes()


def chunk(instances: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dat, cat and info of the images with these instances, shuffled; every pixel is the index of its image."""
    factors = np.stack(np.unravel_index(np.arange(len(SPACE)), SPACE.sizes), axis=1)
    factors = factors[np.isin(factors[:, 1], instances)]
    factors = np.random.default_rng(instances[0]).permutation(factors)
    index = np.ravel_multi_index(factors.T, SPACE.sizes)
    pixels = np.empty((len(index), 2, 96, 96), np.uint8)
    pixels[:, 0] = index[:, None, None]  # the left camera sees the index
    pixels[:, 1] = 255 - index[:, None, None]
    return pixels, factors[:, 0].astype("<i4"), (factors[:, 1:] * (1, 1, 2, 1)).astype("<i4")


def write(folder: Path, packed: bool = False, chunks: list | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, parts in zip(CHUNKS, chunks or [chunk(instances) for instances in INSTANCES], strict=True):
        for part, values in zip(("dat", "cat", "info"), parts, strict=True):
            data = matrix(values)
            path = folder / f"{name}-{part}.mat{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(data, 1) if packed else data)
    return folder


def pixels(dataset: SmallNORB) -> np.ndarray:
    """All images as numbers from 0 to 255, [N, 1, 64, 64]."""
    return dataset.images(torch.arange(len(dataset)), RANDOM).mul(255).round().numpy()

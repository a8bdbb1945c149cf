"""The user's own images, with known, partly known or unknown factors."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deft_lightning.common import checks
from deft_lightning.common.errors import DeftError
from deft_lightning.data import cache
from deft_lightning.data.base import StoredImages
from deft_lightning.data.custom import labels as custom_labels
from deft_lightning.data.custom.images import Images, changes, open_images
from deft_lightning.data.custom.pixels import colour
from deft_lightning.data.progress import progress_bar


class CustomImages(StoredImages):
    """The user's own images, float32 [B, C, S, S], from an .npz or HDF5 file or a folder of pictures.

    In a file the images are under `images` or `imgs`: [N, H, W], [N, H, W, C] or [N, C, H, W], integers from 0 to 255,
    floats from 0 to 1, or booleans; C is 1, 3 or, with the opacity, 4. Its labels, if any, are numbers or strings
    [N, K] under `factors`, `labels` or `latents_classes`, and their names under `factor_names` [K]. A folder is
    searched with its subfolders, and the images are in the order of their paths. Images that are not S x S are resized,
    without keeping their aspect ratio.

    `labels` is a file of labels that replaces those: CSV with the names of the factors in the first line and one line
    for each image, or an `.npy` array [N, K]. For a folder, the first column of the CSV is `file`, the path within the
    folder. `image_size` is S in pixels; `channels` is 1 or 3 (default: as in the images). Images with transparent parts
    are composed over `background`: black, white or #rrggbb.

    Where the labels have every combination exactly once, `space` is their grid and the images are in its order.
    Otherwise `space` is None and `factors` looks up the labels; without labels it returns None. Raises `DeftError` when
    a file is missing, damaged or has other contents, or when labels do not fit the images.
    """

    name = "custom"
    source = "file"

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        labels: str | os.PathLike[str] | None = None,
        image_size: int | str = 64,
        channels: int | str | None = None,
        background: str = "black",
    ) -> None:
        side = checks.whole("data.image_size", _number(image_size), 1)
        if channels is not None:
            channels = int(checks.choice("data.channels", str(channels), ("1", "3")))
        images = open_images("data.path", path, colour("data.background", background), with_labels=labels is None)
        table = images.labels
        if labels is not None:
            table = custom_labels.from_file(Path(labels).expanduser(), images.count, images.files)

        self.shape = (channels or images.channels, side, side)
        grid = table.grid() if table is not None else None
        self.space, places = grid if grid is not None else (None, np.arange(images.count))
        pixels = _read(images, self.shape, places)
        self._pixels = torch.from_numpy(pixels)
        self._names: tuple[str, ...] = table.names if table is not None else ()
        self._factors = torch.from_numpy(table.values) if table is not None and self._names else None  # [N, K]
        self._path = images.path
        contents = {"images": pixels}
        if table is not None:
            contents["factors"] = table.values[np.argsort(places)]  # in the order of the images
        self.digest = cache.digest(contents)[:16]
        self.notices = (
            *images.notices,
            *(table.notices if table is not None else ()),
            *changes(images, self.shape),
            *self._use(images),
        )

    def _use(self, images: Images) -> tuple[str, ...]:
        """Notices about what there is to learn from the images and their labels."""
        notices = []
        if self._names and self.space is None:
            notices.append(
                f"{images.path}: the labels are not a full grid, so scores that hold a factor fixed draw from the "
                "images that share its value."
            )
        if _all_same(self._pixels.numpy()):
            notices.append(
                f"{images.path}: all {images.count} images are the same, so that there is nothing to learn from them."
            )
        return tuple(notices)

    @property
    def factor_names(self) -> tuple[str, ...]:
        """Names of the K labelled factors; empty where there are no labels."""
        return self._names

    def factors(self, indices: Tensor) -> Tensor | None:
        """Factor values, int64 [B, K], of the images at `indices` [B]; None where there are no labels."""
        if self.space is not None or self._factors is None:
            return super().factors(indices)
        return self._factors[indices.cpu()].to(indices.device)

    @property
    def provenance(self) -> dict[str, str]:
        """The file or folder of the images, and the digest of images and labels."""
        return {**super().provenance, "path": str(self._path)}


def _read(images: Images, shape: tuple[int, int, int], places: np.ndarray) -> np.ndarray:
    """All images, uint8 [N, *shape]; image i is at places[i]."""
    try:
        pixels = np.empty((images.count, *shape), np.uint8)
    except (MemoryError, ValueError) as error:
        raise DeftError(
            f"{images.path} has {images.count:,} images, which take more memory than there is: give fewer, or a "
            "smaller data.image_size."
        ) from error
    done = 0
    with progress_bar("Reading images", images.count) as advance:
        for batch in images.batches(shape):  # straight into the order of the grid, without a second copy
            pixels[places[done : done + len(batch)]] = batch
            done += len(batch)
            advance(len(batch))
    return pixels


def _all_same(pixels: np.ndarray) -> bool:
    """Whether there are several images, and no pixel differs between them."""
    blocks = (pixels[start : start + 1024] for start in range(0, len(pixels), 1024))
    return len(pixels) > 1 and all((block == pixels[0]).all() for block in blocks)


def _number(value: int | str) -> int | str:
    return int(value) if isinstance(value, str) and value.isdecimal() else value  # `show` passes strings

"""The user's own images, with known, partly known or unknown factors."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from deft_lightning.common import checks
from deft_lightning.common.errors import DeftError
from deft_lightning.data import cache, streaming
from deft_lightning.data.base import StoredImages, on_device
from deft_lightning.data.custom import labels as custom_labels
from deft_lightning.data.custom.folder import Folder, read_picture
from deft_lightning.data.custom.images import Images, changes, open_images
from deft_lightning.data.custom.pixels import colour
from deft_lightning.data.progress import progress_bar

IN_MEMORY = 4 * 2**30
"""Bytes. A folder whose images would take more stays on disk, unless `data.in_memory` says otherwise."""


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

    Where `in_memory` is false, the images of a folder are not kept in memory but decoded when they are asked for; where
    it is None, those of a folder that would take more than 4 GiB. The images are the same. Their digest is then that of
    the names and sizes of the files, and of the labels.

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
        in_memory: bool | str | None = None,
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
        self._count = images.count
        self._names: tuple[str, ...] = table.names if table is not None else ()
        self._factors = torch.from_numpy(table.values) if table is not None and self._names else None  # [N, K]
        self._path = images.path
        folder = _streamed(images, self.shape, _flag(in_memory))
        if folder is None:
            contents = {"images": _read(images, self.shape, places)}
            self._pixels = torch.from_numpy(contents["images"])
        else:
            contents = folder.fingerprint()
            self.reader = PictureReader(folder, self.shape, np.argsort(places))
        if table is not None:
            contents["factors"] = table.values[np.argsort(places)]  # in the order of the images
        self.digest = cache.digest(contents)[:16]
        self.notices = (
            *images.notices,
            *(table.notices if table is not None else ()),
            *changes(images, self.shape),
            *self._use(images, in_memory is None),
        )

    def __len__(self) -> int:
        return self._count

    @property
    def on_host(self) -> bool:
        """Whether only batches move to a device: images that are decoded when they are asked for, or too many."""
        return self.reader is not None or super().on_host

    def to(self, device: torch.device | str) -> Self:
        """Move the images to `device`; those that are decoded when they are asked for go there in batches."""
        if self.reader is None:
            return super().to(device)
        self.device = torch.device(device)
        return self

    def images(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """Images, float32 [B, C, H, W] in [0, 1], on the data set's device; `generator` is not used.

        `indices` int64 [B] may be on any device.
        """
        if self.reader is None:
            return super().images(indices, generator)
        return on_device(streaming.decode(self.reader, [(index, 0) for index in indices.tolist()]).pixels, self.device)

    def _use(self, images: Images, by_size: bool) -> tuple[str, ...]:
        """Notices about how the images are read, and what there is to learn from them and their labels."""
        notices = []
        if self.reader is not None and by_size:
            notices.append(
                f"{images.path}: its {images.count:,} images are decoded when they are needed, since they would take "
                f"more than {IN_MEMORY >> 30} GiB of memory (data.in_memory)."
            )
        if self._names and self.space is None:
            notices.append(
                f"{images.path}: the labels are not a full grid, so scores that hold a factor fixed draw from the "
                "images that share its value."
            )
        if self.reader is None and _all_same(self._pixels.numpy()):
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


class PictureReader:
    """Reads single pictures of `folder`; image i of the data set is its file number `order`[i]."""

    def __init__(self, folder: Folder, shape: tuple[int, int, int], order: np.ndarray) -> None:
        self._path, self._files, self._background = folder.path, folder.files, folder.background
        self._shape, self._order = shape, order

    def __call__(self, index: int, seed: int) -> streaming.Item:
        file = self._path / self._files[self._order[index]]
        return streaming.Item(torch.from_numpy(read_picture(file, self._shape, self._background).copy()))


def _streamed(images: Images, shape: tuple[int, int, int], in_memory: bool | None) -> Folder | None:
    """The folder, if its pictures are to be decoded when they are asked for."""
    if isinstance(images, Folder):
        by_size = images.count * int(np.prod(shape)) <= IN_MEMORY
        return None if (by_size if in_memory is None else in_memory) else images
    if in_memory is False:
        raise DeftError(f"data.in_memory is False, and {images.path} is a file: give a folder, or leave it out.")
    return None


def _flag(value: bool | str | None) -> bool | None:
    if isinstance(value, str):  # `show` passes strings
        value = {"true": True, "false": False, "null": None}.get(value.lower(), value)  # type: ignore[arg-type]
    return None if value is None else checks.flag("data.in_memory", value)


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

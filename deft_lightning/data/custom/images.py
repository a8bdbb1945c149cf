"""Opens the user's own images, from a folder or an array file: the same for training and for encoding."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from deft_lightning.common.errors import DeftError
from deft_lightning.data.custom.arrays import open_arrays
from deft_lightning.data.custom.folder import Folder
from deft_lightning.data.custom.labels import Labels
from deft_lightning.data.custom.pixels import Colour, readable


class Images(Protocol):
    """Images of a folder or an array file, which stay on disk until they are asked for."""

    path: Path
    labels: Labels | None
    count: int
    channels: int
    """1 or 3, as in the images."""
    size: tuple[int, int] | None
    """Width and height; None where they differ."""

    @property
    def files(self) -> list[str] | None:
        """Paths within the folder, in the order of the images; None for an array file."""

    @property
    def notices(self) -> tuple[str, ...]:
        """Sentences about what reading changes; complete when `batches` has ended."""

    def batches(self, shape: tuple[int, int, int]) -> Iterator[np.ndarray]:
        """All images in order, uint8 [B, *shape], shape (C, S, S) with C 1 or 3; B is some hundred, never all."""


def changes(images: Images, shape: tuple[int, int, int]) -> tuple[str, ...]:
    """Notices about what turns the images into images of `shape` (C, S, S)."""
    channels, side, _ = shape
    notices = []
    if images.size != (side, side):
        size = "different sizes" if images.size is None else f"{images.size[0]} x {images.size[1]}"
        notices.append(f"{images.path}: images of {size} are resized to {side} x {side}.")
    if images.channels != channels:
        notices.append(f"{images.path}: images are converted to {'grey' if channels == 1 else 'RGB'}.")
    return tuple(notices)


def open_images(
    field: str, path: str | os.PathLike[str] | None, background: Colour, with_labels: bool = False
) -> Images:
    """The images at `path`: a folder of pictures, or an .npz or HDF5 file; transparent ones over `background`.

    `field` is what the user calls the path, for messages. Raises `DeftError` when there are no images there, or they
    are damaged as far as their headers tell.
    """
    wanted = "give an .npz or .h5 file, or a folder of images"
    if path is None:
        raise DeftError(f"{field} is null: {wanted}.")
    path = Path(path).expanduser()
    with readable(path):
        if path.is_dir():
            return Folder(path, background)
        if not path.exists():
            raise DeftError(f"{field} is {path}, which does not exist: {wanted}.")
        if path.suffix.lower() not in (".npz", ".h5", ".hdf5"):
            raise DeftError(f"{field} is {path}: {wanted}.")
        return open_arrays(path, background, with_labels)

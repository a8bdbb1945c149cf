"""The user's own images in an .npz or HDF5 file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image

from deft_lightning.common.errors import DeftError
from deft_lightning.data.custom import labels as custom_labels
from deft_lightning.data.custom import stored
from deft_lightning.data.custom.labels import Labels
from deft_lightning.data.custom.pixels import Colour, fit, over, readable, transparency_notice

IMAGE_KEYS = ("images", "imgs")
LABEL_KEYS = ("factors", "labels", "latents_classes")
NAMES_KEY = "factor_names"


class Arrays:
    """Images of an .npz or HDF5 file: [N, H, W], [N, H, W, C] or [N, C, H, W], C 1, 3 or 4.

    Pixels are integers from 0 to 255, floats from 0 to 1, or booleans. A fourth channel is the opacity: such images are
    composed over `background`. Raises `DeftError` for other arrays.
    """

    files: list[str] | None = None

    def __init__(self, images: stored.StoredArray, labels: Labels | None, background: Colour) -> None:
        self.path, self.labels, self._images, self._background = images.path, labels, images, background
        shape, dtype = images.shape, images.dtype
        # Channels last, as in most picture files, is tried first.
        self._axis = next((axis for axis in (3, 1) if len(shape) == 4 and shape[axis] in (1, 3, 4)), None)
        if (len(shape) != 3 and self._axis is None) or 0 in shape or dtype.kind not in "biuf":
            raise DeftError(
                f"{self.path} has images of {dtype} {list(shape)}: give numbers [N, height, width], "
                "[N, height, width, channels] or [N, channels, height, width] with 1, 3 or 4 channels."
            )
        self.count = shape[0]
        self.channels = 1 if self._axis is None else min(3, shape[self._axis])
        height, width = (side for axis, side in enumerate(shape) if axis not in (0, self._axis))
        self.size: tuple[int, int] | None = (width, height)
        self._binary = self._transparent = False

    @property
    def notices(self) -> tuple[str, ...]:
        """Sentences about what reading changes; complete when `batches` has ended."""
        notices = []
        if self._images.dtype.kind == "f":
            notices.append(f"{self.path}: pixels are rounded from {self._images.dtype} to 256 levels.")
        if self._binary:
            notices.append(f"{self.path}: all pixels are 0 or 1 and become black or white.")
        if self._transparent:
            notices.append(transparency_notice(self.path, self._background))
        return tuple(notices)

    def batches(self, shape: tuple[int, int, int]) -> Iterator[np.ndarray]:
        """All images in order, uint8 [B, *shape], shape (C, S, S) with C 1 or 3; B is some hundred, never all."""
        with readable(self.path):
            self._binary = self._is_binary()
            for stored_block in self._images.blocks():
                block = self._bytes(stored_block)  # [B, H, W, C]
                if block.shape[3] == 4:
                    self._transparent |= bool((block[..., 3] < 255).any())
                    block = over(block, self._background)
                if block.shape[3] != shape[0] or self.size != shape[1:]:
                    block = np.stack([fit(Image.fromarray(_squeezed(image)), shape) for image in block])
                yield block.transpose(0, 3, 1, 2)

    def _is_binary(self) -> bool:
        """Whether pixels are integers of at most 1, as in dSprites."""
        return self._images.dtype.kind in "iu" and all(block.max() <= 1 for block in self._images.blocks())

    def _bytes(self, block: np.ndarray) -> np.ndarray:
        """A block of images as bytes, uint8 [B, H, W, C]."""
        if self._axis is None:
            block = block[..., None]
        elif self._axis == 1:
            block = block.transpose(0, 2, 3, 1)
        kind, limit = block.dtype.kind, 1 if block.dtype.kind == "f" else 255
        if kind != "b" and not (block.min() >= 0 and block.max() <= limit):  # false for NaN too
            raise DeftError(
                f"{self.path} has pixels from {block.min():g} to {block.max():g}: give {block.dtype} pixels from 0 to "
                f"{limit}."
            )
        if kind == "f":
            return np.rint(block * np.float32(255)).astype(np.uint8)
        return block.astype(np.uint8) * np.uint8(255 if self._binary or kind == "b" else 1)


def open_arrays(path: Path, background: Colour, with_labels: bool = True) -> Arrays:
    """The images of a file and, with `with_labels`, its labels if it has any.

    Images stay on disk until `batches`. Raises `DeftError` when the file is damaged, has no images under one of the
    expected keys, or holds pickled objects.
    """
    with readable(path):
        file = np.load(path, allow_pickle=False) if stored.is_npz(path) else h5py.File(path, "r")
        if isinstance(file, np.ndarray):
            raise ValueError("an .npy file called .npz")
        with file:
            keys = list(file)
            image_key = next((key for key in IMAGE_KEYS if key in keys), None)
            if image_key is None:
                raise DeftError(
                    f"{path} has only {', '.join(keys) or 'nothing'}: store the images under {' or '.join(IMAGE_KEYS)}."
                )
            images = stored.find(path, image_key)
            label_key = next((key for key in LABEL_KEYS if key in keys), None)
            if label_key is None or not with_labels:
                return Arrays(images, None, background)
            names = _strings(file, NAMES_KEY, path).reshape(-1).tolist() if NAMES_KEY in keys else None
            labels = _strings(file, label_key, path)
        count = images.shape[0] if images.shape else 0
        return Arrays(images, custom_labels.from_array(labels, names, count, str(path)), background)


def _strings(file: Mapping[str, Any], key: str, path: Path) -> np.ndarray:
    """The array under `key`; HDF5 strings, which are objects, become NumPy strings."""
    values = file[key]
    if not isinstance(values, np.ndarray | h5py.Dataset):
        raise DeftError(f"{path} has a group called {key}: store the labels as one array.")
    array = np.asarray(values[()])
    if array.dtype.kind not in "OS":
        return array
    return np.array([_text(cell) for cell in array.reshape(-1)], dtype=np.str_).reshape(array.shape)


def _squeezed(image: np.ndarray) -> np.ndarray:
    return image[:, :, 0] if image.shape[2] == 1 else image


def _text(cell: object) -> str:
    return cell.decode() if isinstance(cell, bytes) else str(cell)

"""Reads the user's own images, from a folder or an array file, as bytes of one size."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from deft_lightning.common.errors import DeftError
from deft_lightning.data.custom import labels as custom_labels
from deft_lightning.data.custom.labels import Labels
from deft_lightning.data.progress import progress_bar

IMAGE_KEYS = ("images", "imgs")
LABEL_KEYS = ("factors", "labels", "latents_classes")
NAMES_KEY = "factor_names"

ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Endings of the files in a folder that are read as images."""

_BLOCK = 1024  # images converted at a time


class Arrays:
    """Images of an .npz or HDF5 file: [N, H, W], [N, H, W, C] or [N, C, H, W], C 1 or 3.

    Pixels are integers from 0 to 255, floats from 0 to 1, or booleans. Raises `DeftError` for other arrays.
    """

    files = None

    def __init__(self, path: Path, images: np.ndarray | h5py.Dataset, labels: Labels | None) -> None:
        self.path, self.labels, self._images = path, labels, images
        shape = images.shape
        # Channels last, as in most picture files, is tried first.
        self._axis = next((axis for axis in (3, 1) if len(shape) == 4 and shape[axis] in (1, 3)), None)
        if (len(shape) != 3 and self._axis is None) or 0 in shape or images.dtype.kind not in "biuf":
            raise DeftError(
                f"{path} has images of {images.dtype} {list(shape)}: give numbers [N, height, width], "
                "[N, height, width, channels] or [N, channels, height, width] with 1 or 3 channels."
            )
        self.count = shape[0]
        self.channels = 1 if self._axis is None else shape[self._axis]
        height, width = (side for axis, side in enumerate(shape) if axis not in (0, self._axis))
        self.size = (width, height)
        self.notices: tuple[str, ...] = ()
        if images.dtype.kind == "f":
            self.notices = (f"{path}: pixels are rounded from {images.dtype} to 256 levels.",)

    def fill(self, target: np.ndarray, places: np.ndarray) -> None:
        """Write image i to target[places[i]]; target is uint8 [N, C, S, S] with C 1 or 3."""
        side = target.shape[-1]
        with readable(self.path):
            binary = self._is_binary()
            for start in range(0, self.count, _BLOCK):
                block = self._pixels(self._images[start : start + _BLOCK], binary)  # [B, H, W, C]
                if block.shape[3] != target.shape[1] or self.size != (side, side):
                    block = np.stack([_fit(Image.fromarray(_squeezed(image)), target.shape[1:]) for image in block])
                target[places[start : start + len(block)]] = block.transpose(0, 3, 1, 2)
        if binary:
            self.notices += (f"{self.path}: all pixels are 0 or 1 and become black or white.",)

    def _is_binary(self) -> bool:
        """Whether pixels are integers of at most 1, as in dSprites."""
        starts = range(0, self.count, _BLOCK)
        return self._images.dtype.kind in "iu" and all(
            self._images[start : start + _BLOCK].max() <= 1 for start in starts
        )

    def _pixels(self, block: np.ndarray, binary: bool) -> np.ndarray:
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
        return block.astype(np.uint8) * np.uint8(255 if binary or kind == "b" else 1)


class Folder:
    """All images in a folder and its subfolders, in the order of their paths; hidden ones are left out.

    Raises `DeftError` when there are none, or one cannot be read.
    """

    labels = None

    def __init__(self, path: Path) -> None:
        self.path = path
        with readable(path):
            paths = (file.relative_to(path) for file in path.rglob("*") if file.suffix.lower() in ENDINGS)
            self.files = sorted(
                file.as_posix() for file in paths if not any(part.startswith(".") for part in file.parts)
            )
        if not self.files:
            raise DeftError(f"{path} has no images: add files that end in {', '.join(ENDINGS)}.")
        self.count = len(self.files)
        modes, sizes = set(), set()
        for file in self.files:
            with _picture(path / file) as picture:  # reads only the header of the file
                modes.add(picture.mode)
                sizes.add(picture.size)
        self.channels = 1 if all(mode in ("1", "L", "LA") or mode.startswith("I;16") for mode in modes) else 3
        self.size = next(iter(sizes)) if len(sizes) == 1 else None
        self.notices: tuple[str, ...] = ()
        if others := sorted(modes - {"1", "L", "RGB"}):
            self.notices = (
                f"{path}: images of type {', '.join(others)} are converted to 8 bits a channel without transparency.",
            )

    def fill(self, target: np.ndarray, places: np.ndarray) -> None:
        """Write image i to target[places[i]]; target is uint8 [N, C, S, S] with C 1 or 3."""
        with progress_bar("Reading images", self.count) as advance:
            for file, place in zip(self.files, places, strict=True):
                with _picture(self.path / file) as picture:
                    target[place] = _fit(_eight_bits(picture, self.path / file), target.shape[1:]).transpose(2, 0, 1)
                advance(1)


def open_arrays(path: Path, with_labels: bool = True) -> Arrays:
    """The images of a file and, with `with_labels`, its labels if it has any.

    HDF5 images stay on disk until `fill`. Raises `DeftError` when the file is damaged, has no images under one of the
    expected keys, or holds pickled objects.
    """
    with readable(path):
        file = np.load(path, allow_pickle=False) if path.suffix.lower() == ".npz" else h5py.File(path, "r")
        if isinstance(file, np.ndarray):
            raise ValueError("an .npy file called .npz")
        keys = list(file)
        image_key = next((key for key in IMAGE_KEYS if key in keys), None)
        if image_key is None:
            raise DeftError(
                f"{path} has only {', '.join(keys) or 'nothing'}: store the images under {' or '.join(IMAGE_KEYS)}."
            )
        images = file[image_key]
        if not isinstance(images, np.ndarray | h5py.Dataset):
            raise DeftError(f"{path} has a group called {image_key}: store the images as one array.")
        label_key = next((key for key in LABEL_KEYS if key in keys), None)
        if label_key is None or not with_labels:
            return Arrays(path, images, None)
        names = _strings(file, NAMES_KEY, path).reshape(-1).tolist() if NAMES_KEY in keys else None
        count = images.shape[0] if images.shape else 0
        return Arrays(path, images, custom_labels.from_array(_strings(file, label_key, path), names, count, str(path)))


def _strings(file: Mapping[str, Any], key: str, path: Path) -> np.ndarray:
    """The array under `key`; HDF5 strings, which are objects, become NumPy strings."""
    if not isinstance(file[key], np.ndarray | h5py.Dataset):
        raise DeftError(f"{path} has a group called {key}: store the labels as one array.")
    array = np.asarray(file[key][()])
    if array.dtype.kind not in "OS":
        return array
    return np.array([_text(cell) for cell in array.reshape(-1)], dtype=np.str_).reshape(array.shape)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Raise every failure to read `path` as a `DeftError`."""
    try:
        yield
    except DeftError:
        raise
    except (OSError, ValueError, KeyError, EOFError, TypeError, RuntimeError, zlib.error, zipfile.BadZipFile) as error:
        if isinstance(error, PermissionError):
            problem = "cannot be read (permission denied): change its permissions"
        elif "Object arrays" in str(error):  # NumPy's message about pickled arrays
            problem = "holds Python objects, which are never loaded: save plain arrays"
        else:
            problem = "is damaged, incomplete or of another format: save it again"
        raise DeftError(f"{path} {problem}.") from error


@contextmanager
def _picture(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as picture:
            yield picture
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DeftError(f"{path} is damaged or not an image: replace or delete it.") from error


def _eight_bits(picture: Image.Image, path: Path) -> Image.Image:
    """The picture as L or RGB, turned upright by its EXIF orientation."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(picture) / 257).round().astype(np.uint8))
    if picture.mode in ("I", "F"):
        raise DeftError(f"{path} has 32 bits a pixel, and their range is unknown: save it with 8 bits a channel.")
    return picture.convert("L" if picture.mode in ("1", "L", "LA") else "RGB")


def _fit(picture: Image.Image, shape: tuple[int, int, int]) -> np.ndarray:
    """The picture with the channels and size in `shape` (C, S, S), uint8 [S, S, C]."""
    picture = picture.convert("L" if shape[0] == 1 else "RGB")
    if picture.size != shape[1:]:
        picture = picture.resize(shape[1:], Image.Resampling.LANCZOS)  # without aliasing when it shrinks
    return np.asarray(picture).reshape(*shape[1:], shape[0])


def _squeezed(image: np.ndarray) -> np.ndarray:
    return image[:, :, 0] if image.shape[2] == 1 else image


def _text(cell: object) -> str:
    return cell.decode() if isinstance(cell, bytes) else str(cell)

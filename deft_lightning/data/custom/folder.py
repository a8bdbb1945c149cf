"""The user's own images in a folder of pictures."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from deft_lightning.common.errors import DeftError
from deft_lightning.data.custom.labels import Labels
from deft_lightning.data.custom.pixels import Colour, fit, over, readable, transparency_notice

ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Endings of the files in a folder that are read as images."""

_BATCH = 256  # pictures decoded at a time
_GREY = ("1", "L", "LA")


class Folder:
    """All images in a folder and its subfolders, in the order of their paths; hidden ones are left out.

    Images with transparent parts are composed over `background`. Raises `DeftError` when there are no images, or one
    cannot be read.
    """

    labels: Labels | None = None

    def __init__(self, path: Path, background: Colour) -> None:
        self.path, self.background = path, background
        with readable(path):
            found = (file for file in path.rglob("*") if file.suffix.lower() in ENDINGS and not file.is_dir())
            paths = (file.relative_to(path) for file in found)
            self.files = sorted(
                file.as_posix() for file in paths if not any(part.startswith(".") for part in file.parts)
            )
        if not self.files:
            raise DeftError(f"{path} has no images: add files that end in {', '.join(ENDINGS)}.")
        self.count = len(self.files)
        modes, sizes, coloured = set(), set(), len(set(background)) > 1
        self.channels, self._may_be_transparent = 1, False
        for file in self.files:
            with _picture(path / file) as picture:  # reads only the header of the file
                modes.add(picture.mode)
                sizes.add(picture.size)
                self._may_be_transparent |= picture.has_transparency_data
                grey = picture.mode in _GREY or picture.mode.startswith("I;16")
                if not grey or (coloured and picture.has_transparency_data):
                    self.channels = 3
        self.size = next(iter(sizes)) if len(sizes) == 1 else None
        self._converted = sorted(modes - {"1", "L", "LA", "RGB", "RGBA"})
        self._transparent = False

    def fingerprint(self) -> dict[str, np.ndarray]:
        """Names and sizes of the files, which tell most changes without decoding a picture.

        Whether there are transparent parts is then told from the headers.
        """
        self._transparent = self._may_be_transparent
        with readable(self.path):
            sizes = [(self.path / file).stat().st_size for file in self.files]
        return {"files": np.array(self.files), "sizes": np.array(sizes)}

    @property
    def notices(self) -> tuple[str, ...]:
        """Sentences about what reading changes; complete when `batches` has ended."""
        notices = []
        if self._converted:
            notices.append(
                f"{self.path}: images of type {', '.join(self._converted)} are converted to 8 bits a channel."
            )
        if self._transparent:
            notices.append(transparency_notice(self.path, self.background))
        return tuple(notices)

    def batches(self, shape: tuple[int, int, int]) -> Iterator[np.ndarray]:
        """All images in order, uint8 [B, *shape], shape (C, S, S) with C 1 or 3; B is some hundred, never all."""
        for start in range(0, self.count, _BATCH):
            yield np.stack([self._read(file, shape) for file in self.files[start : start + _BATCH]])

    def _read(self, file: str, shape: tuple[int, int, int]) -> np.ndarray:
        picture, transparent = _decoded(self.path / file, self.background)
        self._transparent |= transparent
        return fit(picture, shape).transpose(2, 0, 1)


def read_picture(file: Path | BytesIO, shape: tuple[int, int, int], background: Colour) -> np.ndarray:
    """One picture as `Folder` reads it, uint8 [*shape], from a path or from bytes that have a `name`.

    Raises `DeftError` when it cannot be read.
    """
    return fit(_decoded(file, background)[0], shape).transpose(2, 0, 1)


@contextmanager
def _picture(file: Path | BytesIO) -> Iterator[Image.Image]:
    """The picture in a file. Every failure to open or, in the block, to decode it is a `DeftError` that names it."""
    path = _name(file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's name no file
            with Image.open(file) as picture:
                yield picture
    except DeftError:
        raise
    except PermissionError as error:
        raise DeftError(f"{path} cannot be read (permission denied): change its permissions.") from error
    except Exception as error:  # what Pillow raises for damaged files has no common type
        raise DeftError(f"{path} is damaged or not an image: replace or delete it.") from error


def _name(file: Path | BytesIO) -> object:
    return file if isinstance(file, Path) else file.name


def _decoded(file: Path | BytesIO, background: Colour) -> tuple[Image.Image, bool]:
    """A picture as L or RGB, turned upright by its EXIF orientation, and whether parts of it are transparent."""
    with _picture(file) as opened:
        picture = ImageOps.exif_transpose(opened)
        if picture.mode in ("I", "F"):
            raise DeftError(
                f"{_name(file)} has 32 bits a pixel, and their range is unknown: save it with 8 bits a channel."
            )
        if picture.mode.startswith("I;16"):
            picture = _from_16_bits(picture)
        if not picture.has_transparency_data:
            return picture.convert("L" if picture.mode in _GREY else "RGB"), False
        pixels = np.asarray(picture.convert("RGBA"))  # [H, W, 4]
        return Image.fromarray(over(pixels, background)), bool((pixels[..., 3] < 255).any())


def _from_16_bits(picture: Image.Image) -> Image.Image:
    values, transparent = np.asarray(picture), picture.info.get("transparency")
    grey = Image.fromarray((values / 257).round().astype(np.uint8))
    if transparent is not None:  # one level of grey
        grey.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return grey

"""What folders and array files of images have in common: colours, transparency, size, and damage in one sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from deft_lightning.common.errors import DeftError

Colour = tuple[int, int, int]
"""Red, green and blue, from 0 to 255."""

COLOURS: dict[str, Colour] = {"black": (0, 0, 0), "white": (255, 255, 255)}


def colour(field: str, value: object) -> Colour:
    """The colour that `value` names: black, white or #rrggbb. Raises `DeftError` otherwise, naming the field."""
    text = str(value).lower()
    if text in COLOURS:
        return COLOURS[text]
    if re.fullmatch("#[0-9a-f]{6}", text):
        red, green, blue = bytes.fromhex(text[1:])
        return red, green, blue
    raise DeftError(f"{field} is {value!r}: give black, white or #rrggbb, as in '{field}=\"#ff8000\"'.")


def transparency_notice(path: Path, background: Colour) -> str:
    """The notice for images with transparent parts."""
    name = next((name for name, value in COLOURS.items() if value == background), "#" + bytes(background).hex())
    return f"{path}: transparent images are composed over {name} (data.background)."


def over(pixels: np.ndarray, background: Colour) -> np.ndarray:
    """Pixels uint8 [..., 4], the last channel the opacity, composed over a colour: uint8 [..., 3]."""
    alpha = pixels[..., 3:].astype(np.uint16)
    ground = np.array(background, np.uint16)
    return ((pixels[..., :3] * alpha + ground * (255 - alpha) + 127) // 255).astype(np.uint8)


def fit(picture: Image.Image, shape: tuple[int, int, int]) -> np.ndarray:
    """The picture with the channels and size in `shape` (C, S, S), uint8 [S, S, C]."""
    picture = picture.convert("L" if shape[0] == 1 else "RGB")
    if picture.size != shape[1:]:
        picture = picture.resize(shape[1:], Image.Resampling.LANCZOS)  # without aliasing when it shrinks
    return np.asarray(picture).reshape(*shape[1:], shape[0])


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Raise every failure to read `path` as a `DeftError` that names it."""
    try:
        yield
    except DeftError:
        raise
    except Exception as error:  # what libraries raise for damaged files has no common type
        if isinstance(error, PermissionError):
            problem = "cannot be read (permission denied): change its permissions"
        elif isinstance(error, MemoryError):
            problem = "takes more memory than there is: give fewer or smaller images"
        elif "Object arrays" in str(error):  # NumPy's message about pickled arrays
            problem = "holds Python objects, which are never loaded: save plain arrays"
        else:
            problem = "is damaged, incomplete or of another format: save it again"
        raise DeftError(f"{path} {problem}.") from error

"""Scream dSprites, on a background from The Scream, from the user's picture, or from generated colour bands."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from deft_lightning.common.errors import DeftError
from deft_lightning.data import cache, download
from deft_lightning.data.dsprites.dataset import DSprites

log = logging.getLogger(__name__)

FILE = "scream.jpg"
URL = "https://upload.wikimedia.org/wikipedia/commons/f/f4/The_Scream.jpg"
"""The photograph that the public disentanglement studies use; photographs of the painting differ."""
ASPECT = (0.76, 0.83)
"""Range of width / height for a photograph of the painting, 73.5 cm x 91 cm, with or without its edges."""
FIT = (350, 274)
"""Width and height in pixels that a picture is scaled down to fit into; its aspect ratio does not change."""


class ScreamDSprites(DSprites):
    """Scream dSprites: the sprite inverts a patch of The Scream; float32 [B, 3, 64, 64].

    The background is the average of a random 64 x 64 crop of the painting and one random RGB colour, and the sprite
    1 - background. Crop and colour are nuisances: they are drawn at every access. `scream_image` is a picture to use
    instead of the downloaded painting; without either, generated colour bands are used, and `notices` and `provenance`
    say so. Raises `DeftError` when `scream_image` cannot be read as a picture, and as `DSprites` does.

    Reference: Locatello et al., Challenging Common Assumptions, 2019, section 5.
    """

    name = "scream_dsprites"
    shape = (3, 64, 64)

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        source: str = "auto",
        scream_image: str | os.PathLike[str] | None = None,
    ) -> None:
        prepared = cache.resolve_root(root) / FILE
        if scream_image is not None:
            self.background, picture = "file", read_picture(Path(scream_image).expanduser())
        elif prepared.exists():
            self.background, picture = "painting", read_painting(prepared)
        else:
            self.background, picture = "generated", colour_bands()
        super().__init__(root, source)
        if self.background == "generated":
            self.notices += (
                f"Generated colour bands replace The Scream, which is not at {prepared}: "
                "`python -m deft_lightning.data prepare scream` fetches it.",
            )
        self.background_digest = cache.digest({"images": picture})[:16]
        self._half = torch.from_numpy(picture.astype(np.float32) / 255) / 2  # [height, width, 3]

    @property
    def provenance(self) -> dict[str, str]:
        """The origin of the sprites and of the background, with the digest of the background's picture."""
        return {**super().provenance, "background": self.background, "background_digest": self.background_digest}

    def to(self, device: torch.device | str) -> Self:
        """Move the sprites and the picture to `device`."""
        self._half = self._half.to(device)
        return super().to(device)

    def _decorate(self, masks: Tensor, generator: torch.Generator) -> Tensor:
        count, (height, width) = len(masks), self._half.shape[:2]
        top = torch.randint(height - 63, (count,), generator=generator, device=self.device)
        left = torch.randint(width - 63, (count,), generator=generator, device=self.device)
        colours = torch.rand(count, 3, generator=generator, device=self.device)
        # A row of a crop is 192 consecutive numbers of the picture. `rows` has every such row, as overlapping views.
        rows = self._half.view(-1).as_strided((height * width - 63, 192), (3, 1))
        first = (top.unsqueeze(1) + torch.arange(64, device=self.device)) * width + left.unsqueeze(1)
        background = rows.index_select(0, first.view(-1)).view(count, 64, 192)  # half the crop
        background += (colours / 2).repeat(1, 64).unsqueeze(1)
        # |1 - background| on the sprite, |0 - background| elsewhere.
        return masks.sub_(background.view_as(masks)).abs_()


def read_picture(path: Path) -> np.ndarray:
    """A picture scaled down to fit into 350 x 274, uint8 [height, width, 3].

    Scaled with Pillow's `thumbnail`, as the reference implementation does, which never enlarges. Raises `DeftError`
    when the file is missing, is not a picture, or is too small for crops of 64 x 64.
    """
    try:
        with Image.open(path) as picture:
            picture.thumbnail(FIT)
            array = np.asarray(picture.convert("RGB"))
    except FileNotFoundError as error:
        raise DeftError(f"{path} is missing: choose the Scream background with data.scream_image.") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DeftError(
            f"{path} is damaged or not a picture: choose another background with data.scream_image, or delete it."
        ) from error
    if min(array.shape[:2]) < 64:
        raise DeftError(
            f"{path} is too small for the Scream background ({array.shape[1]} x {array.shape[0]} when scaled to fit "
            f"into {FIT[0]} x {FIT[1]}, and crops are 64 x 64): choose a larger one with data.scream_image."
        )
    return array


def read_painting(path: Path) -> np.ndarray:
    """The Scream, whole and upright, as `read_picture` returns it.

    Raises `DeftError` also when the picture has another aspect ratio than the painting or has to be enlarged.
    """
    picture = read_picture(path)
    height, width = picture.shape[:2]
    if height < FIT[1] or not ASPECT[0] <= width / height <= ASPECT[1]:
        raise DeftError(
            f"{path} is not The Scream (scaled to fit into {FIT[0]} x {FIT[1]} it is {width} x {height}, and the "
            "painting about 215 x 274): delete it and run `python -m deft_lightning.data prepare scream`, or use it as "
            f"it is with data.scream_image={path}."
        )
    return picture


def colour_bands() -> np.ndarray:
    """A picture of swirling colour bands, uint8 [274, 217, 3], always the same, which replaces a missing painting."""
    height, width = 274, 217
    y, x = np.mgrid[0:height, 0:width] / height
    swirl = 0.09 * np.sin(9 * x + 4 * y) + 0.06 * np.sin(17 * x - 7 * y + 1) + 0.03 * np.sin(31 * x + 23 * y)
    bend = np.hypot(x - 0.55, y - 0.75) * 0.8 + 0.5 * y + swirl
    palette = np.array(
        [
            (196, 74, 32),
            (233, 150, 54),
            (120, 52, 30),
            (222, 178, 96),
            (62, 76, 98),
            (24, 34, 60),
            (128, 110, 72),
        ]
    )
    place = (7.0 * bend) % len(palette)
    lower = np.floor(place).astype(int)
    blend = (place - lower)[..., None] ** 3  # bands with one soft edge, like brush strokes
    colours = (1 - blend) * palette[lower] + blend * palette[(lower + 1) % len(palette)]
    strokes = 18 * np.sin(160 * bend + 5 * np.sin(20 * x))[..., None]
    return np.clip(colours + strokes, 0, 255).astype(np.uint8)


def prepare(root: str | os.PathLike[str] | None) -> str:
    """Download the painting to the data folder unless a good picture is there; says where it is.

    A file that is not the painting is renamed to *.old first. Raises `DeftError` when the painting cannot be
    downloaded, or when the downloaded file is not a picture of it.
    """
    path = cache.resolve_root(root) / FILE
    try:
        read_painting(path)
    except DeftError as error:
        with suppress(FileNotFoundError):
            previous = path.rename(path.with_name(path.name + ".old"))
            log.warning("The Scream is downloaded, and the previous file is now %s: %s", previous, error)
        download.fetch((URL,), path)
        try:
            read_painting(path)
        except DeftError:
            path.unlink()  # perhaps an error page, which no run must take for the painting
            raise
    return f"The Scream is ready in {path}."

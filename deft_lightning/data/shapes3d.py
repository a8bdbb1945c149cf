"""3D Shapes: the published HDF5 file, unpacked once to a file that training maps into memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import torch

from deft_lightning.common.errors import DeftError
from deft_lightning.data import cache, download, published
from deft_lightning.data.base import MappedImages
from deft_lightning.data.factors import FactorSpace

FILE = "3dshapes.h5"
URL = f"https://storage.googleapis.com/3d-shapes/{FILE}"
MD5 = "099a2078d58cec4daad0702c55d06868"
"""Digest of the published file, from the disent library; 268 MB."""
SPACE = FactorSpace(("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation"), (10, 10, 10, 8, 4, 15))
CACHE = "shapes3d.h5"

_TITLE = "3D Shapes"
_KIND, _VERSION = "published 3D Shapes", 1
_BLOCK = 8192  # images unpacked at a time, 101 MB; more where the chunks of the file are longer


class Shapes3D(MappedImages):
    """3D Shapes: 480,000 images of one object in a room, float32 [B, 3, 64, 64].

    Factors are floor_hue 10, wall_hue 10, object_hue 10, scale 8, shape 4 and orientation 15, orientation fastest.
    `root` is the folder of the published file and of the prepared data (default: the user's cache folder). The images
    take 5.9 GB on disk and stay there. Raises `DeftError` when they are not there, or the file is not the published
    one.

    Reference: Kim and Mnih, Disentangling by Factorising, 2018; Burgess and Kim, 3D Shapes Dataset, 2018.
    """

    name = "shapes3d"
    source = "published"
    shape = (3, 64, 64)
    space: FactorSpace = SPACE
    notices = (f"{_TITLE}: the published images.",)

    def __init__(self, root: str | os.PathLike[str] | None = None) -> None:
        prepared = load(root, self.space)
        self._pixels, self.digest = prepared.arrays["images"], prepared.digest[:16]


def load(root: str | os.PathLike[str] | None, space: FactorSpace = SPACE) -> cache.Prepared:
    """The published `images`, uint8 [len(space), 64, 64, 3], mapped; the published file is unpacked once.

    The unpacked images are enough: the published file may be deleted. Raises `MissingDataError` when the data folder
    has neither or only damaged unpacked images, and `DeftError` when its file is not the published one.
    """
    folder = cache.resolve_root(root)
    path = folder / FILE
    missing = (
        f"{folder} has no {FILE} of {_TITLE}: run `python -m deft_lightning.data prepare shapes3d`, or save {URL} "
        "there by hand."
    )

    def build() -> dict[str, np.ndarray | cache.Blocks]:
        published.check_md5(path, MD5)
        shape = (len(space), 64, 64, 3)
        return {"images": cache.Blocks(shape, np.dtype(np.uint8), _blocks(path, space), f"Unpacking {_TITLE}")}

    return published.load_converted(
        folder / CACHE,
        [path] if path.exists() else [],
        build,
        kind=_KIND,
        version=_VERSION,
        missing=missing,
        mapped=True,
    )


def prepare(root: str | os.PathLike[str] | None = None, space: FactorSpace = SPACE) -> str:
    """Unpack the published file, after downloading it where it is missing or damaged; says where the images are.

    Raises `DeftError` when it cannot be downloaded, with its address and the path to save it to by hand.
    """
    folder = cache.resolve_root(root)
    published.fetch_unless_good(
        _TITLE, lambda: load(root, space), lambda: download.fetch((URL,), folder / FILE, f"md5:{MD5}")
    )
    return f"The published images of {_TITLE} are ready in {folder / CACHE}."


def _blocks(path: Path, space: FactorSpace) -> Iterator[np.ndarray]:
    """The images in blocks, uint8 [up to _BLOCK, 64, 64, 3], of a published file whose labels are checked."""
    with published.readable(path, _TITLE), h5py.File(path, "r") as file:
        images = file["images"]
        published.check_array(path, _TITLE, "images", images, (len(space), 64, 64, 3))
        _check_order(path, np.asarray(file["labels"]), space)
        # Whole chunks at a time, so that none is unpacked twice.
        step = max(1, _BLOCK // images.chunks[0]) * images.chunks[0] if images.chunks else _BLOCK
        for start in range(0, len(space), step):
            yield images[start : start + step]


def _check_order(path: Path, labels: np.ndarray, space: FactorSpace) -> None:
    """Check that the labels [N, 6] count through the space: each rises with the values of its factor, and alone."""
    factors = space.factors(torch.arange(len(space))).numpy()
    if labels.shape != factors.shape or labels.dtype.kind != "f":
        raise DeftError(
            f"{path} is not {_TITLE} (its labels are {labels.dtype} {list(labels.shape)} instead of floats "
            f"{list(factors.shape)}): {published.AGAIN}."
        )
    for place, size in enumerate(space.sizes):
        column, values = labels[:, place], np.unique(labels[:, place])
        if len(values) != size or not np.array_equal(values[factors[:, place]], column):
            raise DeftError(f"{path} is not the published file (its images are in another order): {published.AGAIN}.")

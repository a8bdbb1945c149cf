"""The published dSprites file, .hdf5 or .npz: downloaded, checked and converted. No pickle is ever loaded."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import torch

from deft_lightning.common.errors import DeftError
from deft_lightning.data import cache, download
from deft_lightning.data.dsprites import renderer
from deft_lightning.data.factors import FactorSpace
from deft_lightning.data.published import AGAIN, check_md5, fetch_unless_good, load_converted, readable
from deft_lightning.data.zipped import ZippedArray

STEM = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64"
MD5 = "b331c4447a651c44bf5e8ae09022e230"
"""Digest of the published HDF5 file. None is published for the .npz, so its contents are checked instead."""
URLS = (
    f"https://github.com/google-deepmind/dsprites-dataset/raw/master/{STEM}.hdf5",
    f"https://github.com/deepmind/dsprites-dataset/raw/master/{STEM}.hdf5",
    f"https://raw.githubusercontent.com/google-deepmind/dsprites-dataset/master/{STEM}.hdf5",
)
CACHE = "dsprites_published.h5"
KIND, VERSION = "published dSprites", 1

_BLOCK = 8192  # images unpacked at a time: 34 MB


def load(root: str | os.PathLike[str] | None) -> cache.Prepared:
    """The published `images`, bit-packed, uint8 [737280, 512]; the published file is converted once.

    The converted images are enough: the published file may be deleted. Raises `MissingDataError` when the data folder
    has neither or only damaged converted images, and `DeftError` when its file is not the published one.
    """
    folder = cache.resolve_root(root)
    files = [path for end in ("hdf5", "npz") if (path := folder / f"{STEM}.{end}").exists()][:1]
    missing = (
        f"{folder} has no published dSprites file: run `python -m deft_lightning.data prepare dsprites`, or save "
        f"{URLS[0]} there by hand."
    )

    def build() -> dict[str, np.ndarray | cache.Blocks]:
        return {"images": read(files[0], renderer.SPACE, MD5)}

    return load_converted(folder / CACHE, files, build, kind=KIND, version=VERSION, missing=missing)


def prepare(root: str | os.PathLike[str] | None) -> str:
    """Convert the published file, after downloading it where it is missing or damaged; says where the images are.

    Raises `DeftError` when it cannot be downloaded, with its address and the path to save it to by hand.
    """
    folder = cache.resolve_root(root)
    fetch_unless_good(
        "dSprites", lambda: load(root), lambda: download.fetch(URLS, folder / f"{STEM}.hdf5", f"md5:{MD5}")
    )
    return f"The published images of dSprites are ready in {folder / CACHE}."


def read(path: Path, space: FactorSpace = renderer.SPACE, md5: str | None = MD5) -> cache.Blocks:
    """Bit-packed images, uint8 [N, 512], of a published file whose latents are checked against `space`.

    The file is read a block at a time, since its images take 3 GB when unpacked. An HDF5 file must have the digest
    `md5`; the images of an .npz must agree with the geometry of the sprites. Raises `DeftError` when the digest is
    another one, and iterating over the blocks raises it when the file is damaged, has other shapes or types, has pixels
    that are not 0 or 1, or lists its images in another order.
    """
    if path.suffix != ".npz":
        check_md5(path, md5)
    shape = (len(space), renderer.BYTES)
    return cache.Blocks(shape, np.dtype(np.uint8), _packed(path, space), "Converting dSprites")


def _packed(path: Path, space: FactorSpace) -> Iterator[np.ndarray]:
    is_zip = path.suffix == ".npz"
    with readable(path, "dSprites"), ExitStack() as stack:
        images, classes, values = (_open_npz if is_zip else _open_hdf5)(path, stack, len(space))
        _check_order(classes, values, path, space)
        del classes, values
        done = 0
        for block in images:
            if block.max() > 1:
                raise DeftError(f"{path} is not dSprites (it has pixels other than 0 and 1): {AGAIN}.")
            packed = np.packbits(block.reshape(len(block), -1), axis=1)
            if is_zip and space is renderer.SPACE:
                check_geometry(packed, done, path)
            yield packed
            done += len(block)


def check_geometry(packed: np.ndarray, start: int, path: Path) -> None:
    """Compare bit-packed images, uint8 [B, 512], with rendered ones; `start` is the index of the first.

    Only the images that have the shape, scale and orientation of the first are compared. Raises `DeftError` when their
    intersection over union is below 0.99: it is at least 0.9995 for the published images.
    """
    size = renderer.SPACE.sizes[3] * renderer.SPACE.sizes[4]  # images of one shape, scale and orientation
    combination, first = divmod(start, size)
    ours = renderer.render(*(int(place) for place in np.unravel_index(combination, renderer.SPACE.sizes[:3])))[first:]
    theirs = packed[: len(ours)]
    ours = ours[: len(theirs)]
    common, covered = (np.unpackbits(bits).sum(dtype=int) for bits in (ours & theirs, ours | theirs))
    if common < 0.99 * covered:
        raise DeftError(f"{path} is not dSprites (it has other images from number {start} on): {AGAIN}.")


class _Contents(NamedTuple):
    """A published file: blocks of images uint8 [B, 64, 64], latent classes and values [N, 6]."""

    images: Iterator[np.ndarray]
    classes: np.ndarray
    values: np.ndarray


def _open_hdf5(path: Path, stack: ExitStack, count: int) -> _Contents:
    file = stack.enter_context(h5py.File(path, "r"))
    images, classes, values = file["imgs"], file["latents/classes"], file["latents/values"]
    _check_shapes(images, classes, values, path, count)
    # Whole chunks at a time, so that none is unpacked twice.
    step = max(1, _BLOCK // images.chunks[0]) * images.chunks[0] if images.chunks else _BLOCK
    return _Contents((images[start : start + step] for start in range(0, count, step)), classes[:], values[:])


def _open_npz(path: Path, stack: ExitStack, count: int) -> _Contents:
    # numpy.load would unpack all 3 GB of images at once, so the archive is read as a stream.
    archive = stack.enter_context(zipfile.ZipFile(path))
    with np.load(path, allow_pickle=False) as arrays:
        classes, values = arrays["latents_classes"], arrays["latents_values"]
    images = ZippedArray(archive, "imgs")
    _check_shapes(images, classes, values, path, count)
    return _Contents(images.blocks(_BLOCK), classes, values)


def _check_shapes(
    images: ZippedArray | h5py.Dataset, classes: np.ndarray, values: np.ndarray, path: Path, count: int
) -> None:
    for name, array, shape, kinds, wanted in (
        ("images", images, (count, 64, 64), "u", "uint8"),
        ("latent classes", classes, (count, 6), "iu", "integers"),
        ("latent values", values, (count, 6), "f", "floats"),
    ):
        fits = array.dtype.kind in kinds and (name != "images" or array.dtype == np.uint8)
        if tuple(array.shape) != shape or not fits:
            raise DeftError(
                f"{path} is not dSprites (its {name} are {array.dtype} {list(array.shape)} instead of "
                f"{wanted} {list(shape)}): {AGAIN}."
            )


def _check_order(classes: np.ndarray, values: np.ndarray, path: Path, space: FactorSpace) -> None:
    """Check that the latent classes count through the space, and that each latent value rises with its class.

    The first of the six latents, colour, has one class. Factors are the classes; the values are not used otherwise.
    """
    factors = space.factors(torch.arange(len(space))).numpy()
    if classes[:, 0].any() or not np.array_equal(classes[:, 1:], factors):
        raise DeftError(f"{path} is not the published file (its images are in another order): {AGAIN}.")
    for size, of_class, value in zip((1, *space.sizes), classes.T, values.T, strict=True):
        levels = np.empty(size)
        levels[of_class] = value
        if not ((levels[1:] > levels[:-1]).all() and np.array_equal(levels[of_class], value)):
            raise DeftError(f"{path} is damaged (its latent values do not agree with its latent classes): {AGAIN}.")

"""Reads the published dSprites files, .hdf5 or .npz: images and latents only, never a pickle."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import h5py
import numpy as np
import torch
from tqdm import tqdm

from deft_lightning.data import cache, download, sprites
from deft_lightning.data.factors import FactorSpace
from deft_lightning.errors import DeftError

STEM = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64"
MD5 = "b331c4447a651c44bf5e8ae09022e230"
"""Of the published HDF5 file. The .npz is recognised by its contents."""
URLS = (
    f"https://github.com/google-deepmind/dsprites-dataset/raw/master/{STEM}.hdf5",
    f"https://github.com/deepmind/dsprites-dataset/raw/master/{STEM}.hdf5",
    f"https://raw.githubusercontent.com/google-deepmind/dsprites-dataset/master/{STEM}.hdf5",
)
CACHE = "dsprites_official.h5"
KIND, VERSION = "official dSprites", 1

_BLOCK = 8192  # images unpacked at a time: 34 MB


def is_there(root: str | os.PathLike[str] | None) -> bool:
    """Whether the official images are in the data folder, converted or as published."""
    folder = cache.resolve_root(root)
    return (folder / CACHE).exists() or _published(folder) is not None


def load(root: str | os.PathLike[str] | None) -> np.ndarray:
    """The official images, bit-packed, uint8 [737280, 512], converted from the published file once.

    Raises DeftError when there is none in the data folder, or when it is not what was published.
    """
    folder = cache.resolve_root(root)

    def build() -> dict[str, np.ndarray]:
        path = _published(folder)
        if path is None:
            raise DeftError(
                f"there is no official dSprites file in {folder}: run `python -m deft_lightning.data prepare "
                f"dsprites`, or save {URLS[0]} there by hand"
            )
        return {"images": read(path)}

    return cache.load_or_build(folder / CACHE, build, kind=KIND, version=VERSION)["images"]


def prepare(root: str | os.PathLike[str] | None) -> str:
    """Download the published file unless one is there, check it and convert it; says where it is.

    Raises DeftError when it cannot be had or is not what was published.
    """
    folder = cache.resolve_root(root)
    if not is_there(root):
        download.fetch(URLS, folder / f"{STEM}.hdf5", f"md5:{MD5}")
    load(root)
    return f"dSprites, the official images, is ready in {folder / CACHE}"


def _published(folder: Path) -> Path | None:
    return next((path for end in ("hdf5", "npz") if (path := folder / f"{STEM}.{end}").exists()), None)


def read(path: Path, space: FactorSpace = sprites.SPACE, md5: str | None = MD5) -> np.ndarray:
    """Bit-packed images, uint8 [N, 512], of a published file, its latents checked against `space`.

    The file is read a block at a time: unpacked, the images would take 3 GB. `md5` is checked for HDF5.
    Raises DeftError when the file is damaged, has other shapes or types, has pixels that are not 0 or 1, or
    lists its images in another order.
    """
    try:
        if path.suffix == ".hdf5" and md5 is not None and (found := _md5(path)) != md5:
            raise DeftError(
                f"{path} is not the published file (md5 {found} instead of {md5}), perhaps because its "
                "download broke off: delete it and download it again"
            )
        with ExitStack() as stack:
            is_zip = path.suffix == ".npz"
            images, classes = (_open_npz if is_zip else _open_hdf5)(path, stack, len(space))
            _check_order(classes, path, space)
            packed = np.empty((len(space), sprites.BYTES), np.uint8)
            done = 0
            with tqdm(total=len(space), desc="Converting dSprites", unit_scale=True, disable=None) as bar:
                for block in images:
                    if block.max() > 1:
                        raise DeftError(f"{path} has pixels other than 0 and 1: it is not dSprites")
                    packed[done : done + len(block)] = np.packbits(block.reshape(len(block), -1), axis=1)
                    done += len(block)
                    bar.update(len(block))
    except DeftError:
        raise
    except Exception as error:  # damage shows as OSError, BadZipFile, zlib.error, ValueError, KeyError, ...
        raise DeftError(
            f"{path} cannot be read as dSprites: it is damaged or its download broke off; delete it and "
            "download it again"
        ) from error
    return packed


def _md5(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _open_hdf5(path: Path, stack: ExitStack, count: int) -> tuple[Iterator[np.ndarray], np.ndarray]:
    file = stack.enter_context(h5py.File(path, "r"))
    images, classes = file["imgs"], file["latents/classes"]
    _check_shapes(images, classes, path, count)
    # Whole chunks at a time, so that none is unpacked twice.
    step = max(1, _BLOCK // images.chunks[0]) * images.chunks[0] if images.chunks else _BLOCK
    return (images[start : start + step] for start in range(0, count, step)), classes[:]


def _open_npz(path: Path, stack: ExitStack, count: int) -> tuple[Iterator[np.ndarray], np.ndarray]:
    # numpy.load would unpack all 3 GB of images at once; the arrays are read from the archive as a stream.
    archive = stack.enter_context(zipfile.ZipFile(path))
    with np.load(path, allow_pickle=False) as arrays:
        classes = arrays["latents_classes"]
    stream = stack.enter_context(archive.open("imgs.npy"))
    np.lib.format.read_magic(stream)
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    _check_shapes(_Header(shape, dtype), classes, path, count)
    if fortran:
        raise DeftError(f"{path} stores its images column by column, which the published file does not")

    def blocks() -> Iterator[np.ndarray]:
        for start in range(0, count, _BLOCK):
            size = min(_BLOCK, count - start)
            data = stream.read(size * 64 * 64)  # a damaged archive fails its checksum here
            yield np.frombuffer(data, np.uint8).reshape(size, 64, 64)

    return blocks(), classes


class _Header:
    """Shape and type of an array that is not read yet."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.shape, self.dtype = shape, dtype


def _check_shapes(images: _Header | h5py.Dataset, classes: np.ndarray, path: Path, count: int) -> None:
    for name, array, shape, kinds in (
        ("images", images, (count, 64, 64), "u1"),
        ("latent classes", classes, (count, 6), "iu"),
    ):
        fits = array.dtype.kind in kinds and (name != "images" or array.dtype == np.uint8)
        if tuple(array.shape) != shape or not fits:
            raise DeftError(
                f"{path} is not dSprites: its {name} are {array.dtype} {list(array.shape)}, and should be "
                f"{'uint8' if name == 'images' else 'integers'} {list(shape)}"
            )


def _check_order(classes: np.ndarray, path: Path, space: FactorSpace) -> None:
    """Latent classes must count through the space; the first of the six, colour, is always 0."""
    factors = space.factors(torch.arange(len(space))).numpy()
    if classes[:, 0].any() or not np.array_equal(classes[:, 1:], factors):
        raise DeftError(f"{path} lists its images in another order than the published file")

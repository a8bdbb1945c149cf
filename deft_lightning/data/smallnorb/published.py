"""The published SmallNORB files: downloaded, checked and converted to 64 x 64 images of the left camera."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
from PIL import Image

from deft_lightning.common.errors import DeftError
from deft_lightning.data import cache, download
from deft_lightning.data.factors import FactorSpace
from deft_lightning.data.progress import progress_bar
from deft_lightning.data.published import fetch_unless_good
from deft_lightning.data.smallnorb import matrices
from deft_lightning.data.smallnorb.renderer import SPACE

FOLDER = "smallnorb"
"""Folder of the published files in the data folder."""
CHUNKS = ("smallnorb-5x46789x9x18x6x2x96x96-training", "smallnorb-5x01235x9x18x6x2x96x96-testing")
PARTS = ("dat", "cat", "info")
NAMES = tuple(f"{chunk}-{part}.mat" for chunk in CHUNKS for part in PARTS)
URL = "https://cs.nyu.edu/~ylclab/data/norb-v1.0-small/"
SHA256 = {
    f"{CHUNKS[0]}-dat.mat.gz": "5ffd6272a07d32695ee1082a26a41a93a37aab8c28da047f8c34ed348d214873",
    f"{CHUNKS[0]}-cat.mat.gz": "2784e542c1922060691090952b6cd6278879a216c90f81476f0f00256d42cdaa",
    f"{CHUNKS[0]}-info.mat.gz": "de7eb932ebe7a4ee16217fead60660d0eb3d23632c2f4d1c51f88c501c17bf32",
    f"{CHUNKS[1]}-dat.mat.gz": "cf7104eed3e51174d2f65b66d1e5878b9da233b886f161b0d88f4510ba2c7474",
    f"{CHUNKS[1]}-cat.mat.gz": "ecaf6d5bb8c3bc5eab9cf0258f6d2198dd474e016e374836fc097f2e5ff509ff",
    f"{CHUNKS[1]}-info.mat.gz": "16adf314226327ee006d1a44db8cfef52773c06c829951d5653a9f6f310248a2",
}
"""Digests of the published files, from TensorFlow Datasets."""

_KIND, _VERSION = "published SmallNORB", 1  # of the converted images
_BLOCK = 256  # images read at a time, 4.7 MB with both cameras


def load(
    root: str | os.PathLike[str] | None, path: str | os.PathLike[str] | None = None, space: FactorSpace = SPACE
) -> cache.Prepared:
    """The published `images` of the left camera, uint8 [len(space), 64, 64], in the order of `space`.

    The files in `path`, or by default in `smallnorb` of the data folder, are converted once. Those in the data folder
    may be deleted then. Raises `MissingDataError` when the data folder has no files and no converted images, or only
    damaged ones, and `DeftError` when a file is missing, damaged or not the published one.
    """
    root = cache.resolve_root(root)
    folder = root / FOLDER if path is None else Path(path).expanduser().resolve()
    target = _cache_file(root, None if path is None else folder)
    files = [file for name in NAMES if (file := _find(folder, name)) is not None]
    if len(files) < len(NAMES):
        missing = _missing(folder)
        if path is not None:
            raise DeftError(missing)  # even when its images were converted before: the path may be wrong
        try:
            return cache.load(target, kind=_KIND, version=_VERSION, missing=missing)
        except cache.MissingDataError as error:
            if files:  # a user who has put some of them there does not want rendered images
                raise DeftError(str(error)) from error
            raise

    def build() -> dict[str, np.ndarray]:
        return {"images": read(files, space)}

    return cache.load_or_build(target, build, kind=_KIND, version=_VERSION, origin=cache.origin_of(files))


def prepare(root: str | os.PathLike[str] | None = None, space: FactorSpace = SPACE) -> str:
    """Convert the published files, after downloading those that are missing; says where the images are.

    Damaged .gz files are replaced. Raises `DeftError` when a file cannot be downloaded, with its address and the path
    to save it to by hand, and when an unpacked one is not the published one.
    """
    folder = cache.resolve_root(root)

    def fetch() -> None:
        for name in NAMES:
            if not (folder / FOLDER / name).is_file():
                packed = f"{name}.gz"  # a good one that is there is kept
                download.fetch((URL + packed,), folder / FOLDER / packed, f"sha256:{SHA256[packed]}")

    fetch_unless_good("SmallNORB", lambda: load(root, space=space), fetch)
    return f"The published images of SmallNORB are ready in {_cache_file(folder, None)}."


def _cache_file(root: Path, folder: Path | None) -> Path:
    # The images of a folder that the user chose are cached apart from those of the data folder.
    suffix = "" if folder is None else "_" + hashlib.blake2b(str(folder).encode(), digest_size=4).hexdigest()
    return root / f"smallnorb_published{suffix}.h5"


def _find(folder: Path, name: str) -> Path | None:
    return next((path for end in ("", ".gz") if (path := folder / (name + end)).is_file()), None)


def _missing(folder: Path) -> str:
    """The sentence about the files that are missing in `folder`."""
    missing = [name for name in NAMES if _find(folder, name) is None]
    others = f" and {len(missing) - 1} other files" if len(missing) > 1 else ""
    return (
        f"{folder} lacks {missing[0]}[.gz]{others} of SmallNORB: run `python -m deft_lightning.data prepare "
        f"smallnorb`, save them there from {URL} by hand, or choose data.source=rendered."
    )


def read(files: list[Path], space: FactorSpace = SPACE) -> np.ndarray:
    """The images of the left camera, uint8 [len(space), 64, 64], in the order of `space`.

    `files` are dat, cat and info of every chunk. Images are scaled from 96 to 64 pixels with Pillow's Lanczos filter:
    it prevents aliasing, and the public disentanglement studies use it. Raises `DeftError` when a file is damaged or
    not the published one, or when a combination of factors is missing or repeated.
    """
    for file in files:
        _check_digest(file)
    chunks = [files[start : start + len(PARTS)] for start in range(0, len(files), len(PARTS))]
    places = [_places(category, info, space) for _, category, info in chunks]
    counts = np.bincount(np.concatenate(places), minlength=len(space))
    if (wrong := np.flatnonzero(counts != 1)).size:
        values = zip(space.names, np.unravel_index(wrong[0], space.sizes), strict=True)
        combination = ", ".join(f"{name} {value}" for name, value in values)
        raise DeftError(
            f"{files[0].parent} has {counts[wrong[0]]} images of {combination}, instead of one: use the six published "
            "files together."
        )
    images = np.empty((len(space), 64, 64), np.uint8)
    with progress_bar("Converting SmallNORB", len(space)) as advance:
        for (pixels, *_), place in zip(chunks, places, strict=True):
            done = 0
            for block in matrices.blocks(pixels, np.dtype("u1"), (len(place), 2, 96, 96), _BLOCK):
                for target, image in zip(place[done:], block[:, 0], strict=False):
                    images[target] = np.asarray(Image.fromarray(image).resize((64, 64), Image.Resampling.LANCZOS))
                done += len(block)
                advance(len(block))
    return images


def _check_digest(file: Path) -> None:
    """Check a .gz file against its published digest; only the contents of an unpacked file can be checked."""
    if (published := SHA256.get(file.name)) is None:
        return
    with open(file, "rb") as stream:
        actual = hashlib.file_digest(stream, "sha256").hexdigest()
    if actual != published:
        raise DeftError(
            f"{file} is not the published file (sha256 {actual} instead of {published}): delete it and download it "
            "again, or unpack it with gunzip if it was only packed again."
        )


def _places(category: Path, info: Path, space: FactorSpace) -> np.ndarray:
    """Index in `space`, int64 [N], of every image of a chunk."""
    categories = matrices.read(category, np.dtype("<i4"), (None,))
    details = matrices.read(info, np.dtype("<i4"), (len(categories), 4))
    if (details[:, 2] % 2).any():  # azimuths count steps of ten degrees, and SmallNORB has every second one
        raise DeftError(f"{info} is not of SmallNORB (it has odd azimuths): delete it and download it again.")
    details = details // (1, 1, 2, 1)
    columns = [categories, *details.T]  # category, instance, elevation, azimuth, lighting
    for name, size, column in zip(space.names, space.sizes, columns, strict=True):
        if column.min(initial=0) < 0 or column.max(initial=0) >= size:
            path = category if name == "category" else info
            raise DeftError(
                f"{path} is not of SmallNORB ({name} is {column.min()} to {column.max()} instead of 0 to {size - 1}): "
                "delete it and download it again."
            )
    return np.ravel_multi_index(columns, space.sizes)

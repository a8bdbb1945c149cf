"""SmallNORB: the published matrices or a rendered stand-in of the same structure, 48,600 images in memory."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from deft_lightning.common.errors import DeftError
from deft_lightning.data import cache, download, sources
from deft_lightning.data.base import StoredImages
from deft_lightning.data.factors import FactorSpace
from deft_lightning.data.smallnorb import published_format, renderer

log = logging.getLogger(__name__)

SPACE = renderer.SPACE
FOLDER = "smallnorb"
"""Where the published files are looked for in the data folder."""
CHUNKS = ("smallnorb-5x46789x9x18x6x2x96x96-training", "smallnorb-5x01235x9x18x6x2x96x96-testing")
PARTS = ("dat", "cat", "info")
URL = "https://cs.nyu.edu/~ylclab/data/norb-v1.0-small/"
SHA256 = {
    f"{CHUNKS[0]}-dat.mat.gz": "5ffd6272a07d32695ee1082a26a41a93a37aab8c28da047f8c34ed348d214873",
    f"{CHUNKS[0]}-cat.mat.gz": "2784e542c1922060691090952b6cd6278879a216c90f81476f0f00256d42cdaa",
    f"{CHUNKS[0]}-info.mat.gz": "de7eb932ebe7a4ee16217fead60660d0eb3d23632c2f4d1c51f88c501c17bf32",
    f"{CHUNKS[1]}-dat.mat.gz": "cf7104eed3e51174d2f65b66d1e5878b9da233b886f161b0d88f4510ba2c7474",
    f"{CHUNKS[1]}-cat.mat.gz": "ecaf6d5bb8c3bc5eab9cf0258f6d2198dd474e016e374836fc097f2e5ff509ff",
    f"{CHUNKS[1]}-info.mat.gz": "16adf314226327ee006d1a44db8cfef52773c06c829951d5653a9f6f310248a2",
}
"""Of the published files, as TensorFlow Datasets lists them."""

_KIND, _VERSION = "official SmallNORB", 1  # of the conversion of the published files
_BLOCK = 256  # images unpacked at a time, 4.7 MB with both cameras
_NOTICES = {
    "official": "SmallNORB: the official images.",
    "rendered": "SmallNORB: a stand-in with the same factors, rendered by this package, not the photographs; "
    "`python -m deft_lightning.data prepare smallnorb` fetches the official ones.",
}


class SmallNORB(StoredImages):
    """SmallNORB: 48,600 grey images of toys, float32 [B, 1, 64, 64].

    Factors are category 5, elevation 9, azimuth 18 and lighting 6, lighting fastest; the instance, 10 in each
    category, is a nuisance. `root` is the folder of the prepared data (default: the user's cache folder).
    `source` is "official" (the published matrices, of the left camera), "rendered" (a stand-in of this
    package) or "auto": the official files when they are there, else rendered. `path` is the folder of the
    published files (default: `smallnorb` in `root`). In memory an image is 4096 bytes, the set 199 MB. Raises
    DeftError when the source is another, or its data can be neither read nor made.

    Reference: LeCun, Huang and Bottou, Learning Methods for Generic Object Recognition, 2004.
    """

    name = "smallnorb"
    shape = (1, 64, 64)
    space: FactorSpace = SPACE

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        source: str = "auto",
        path: str | os.PathLike[str] | None = None,
    ) -> None:
        if path is not None and source == "rendered":
            raise DeftError(
                "data.path is the folder of the official SmallNORB files, which data.source=rendered does not read: "
                "leave one of the two out"
            )
        found = sources.find(source, lambda: load(root, path, self.space), lambda: rendered(root, self.space))
        self.source, self.digest = found.source, found.prepared.digest[:16]
        self.notices = (_NOTICES[self.source], *found.notices)
        self._pixels = torch.from_numpy(found.prepared.arrays["images"]).unsqueeze(1)  # uint8 [48600, 1, 64, 64]


def load(
    root: str | os.PathLike[str] | None, path: str | os.PathLike[str] | None = None, space: FactorSpace = SPACE
) -> cache.Prepared:
    """The official `images` of the left camera, uint8 [len(space), 64, 64], in the order of `space`.

    They are converted once, from the files in `path` or in `smallnorb` of the data folder; those converted from
    the data folder outlive their files. Raises MissingDataError when nothing is in the data folder, or only
    converted images that are damaged, and DeftError when a file is missing, damaged or not what was published.
    """
    root = cache.resolve_root(root)
    folder = root / FOLDER if path is None else Path(path).expanduser().resolve()
    target = _cache_file(root, None if path is None else folder)
    files = [found for name in _names() if (found := _find(folder, name)) is not None]
    if len(files) < len(_names()):
        lacking = _lacking(folder)
        if path is not None:
            raise DeftError(lacking)  # even when its images were converted before: the path may be wrong
        try:
            return cache.load(target, kind=_KIND, version=_VERSION, otherwise=lacking)
        except cache.MissingDataError as error:
            if files:  # who has put some of them there does not want the stand-in
                raise DeftError(str(error)) from error
            raise

    def build() -> dict[str, np.ndarray]:
        return {"images": read(files, space)}

    return cache.load_or_build(target, build, kind=_KIND, version=_VERSION, origin=cache.origin_of(files))


def rendered(root: str | os.PathLike[str] | None, space: FactorSpace = SPACE) -> cache.Prepared:
    """The stand-in, `images` uint8 [len(space), 64, 64], from the cache under `root` or made now."""

    def build() -> dict[str, cache.Blocks]:
        log.info("the stand-in for SmallNORB is rendered once and kept in %s", path)
        rows = cache.with_progress(renderer.blocks(space), len(space), "Rendering SmallNORB")
        return {"images": cache.Blocks((len(space), 64, 64), np.dtype(np.uint8), rows)}

    path = cache.resolve_root(root) / "smallnorb_rendered.h5"
    return cache.load_or_build(path, build, kind="rendered SmallNORB", version=renderer.VERSION)


def prepare_smallnorb(root: str | os.PathLike[str] | None = None, space: FactorSpace = SPACE) -> str:
    """Convert the published files, downloaded unless good ones are there; says where the images are.

    Damaged packed files are replaced. Raises DeftError when a file cannot be had, with its address and the place
    to put it by hand, and when an unpacked one is not what was published.
    """
    folder = cache.resolve_root(root)
    try:
        load(root, space=space)
    except DeftError as error:
        if not isinstance(error, cache.MissingDataError) or error.damaged:
            log.warning("SmallNORB is downloaded: %s", error)
        for name in _names():
            if not (folder / FOLDER / name).is_file():
                packed = f"{name}.gz"  # one that is there and good is kept
                download.fetch((URL + packed,), folder / FOLDER / packed, f"sha256:{SHA256[packed]}")
        load(root, space=space)
    return f"SmallNORB, the official images, is ready in {_cache_file(folder, None)}"


def _cache_file(root: Path, folder: Path | None) -> Path:
    # Files from a folder of the user's own are not mixed up with those of another.
    mark = "" if folder is None else "_" + hashlib.blake2b(str(folder).encode(), digest_size=4).hexdigest()
    return root / f"smallnorb_official{mark}.h5"


def _names() -> list[str]:
    return [f"{chunk}-{part}.mat" for chunk in CHUNKS for part in PARTS]


def _find(folder: Path, name: str) -> Path | None:
    return next((path for end in ("", ".gz") if (path := folder / (name + end)).is_file()), None)


def _lacking(folder: Path) -> str:
    """The sentence about what is missing in `folder`."""
    missing = [name for name in _names() if _find(folder, name) is None]
    others = f" and {len(missing) - 1} other files" if len(missing) > 1 else ""
    return (
        f"the official SmallNORB lacks {missing[0]}[.gz]{others} in {folder}: run `python -m deft_lightning.data "
        f"prepare smallnorb`, save them from {URL} there by hand, or choose data.source=rendered"
    )


def read(files: list[Path], space: FactorSpace = SPACE) -> np.ndarray:
    """The images of the left camera, uint8 [len(space), 64, 64], in the order of `space`.

    `files` are dat, cat and info of every chunk. Images are scaled from 96 to 64 pixels with Pillow's Lanczos
    filter: it keeps aliasing out, and the public disentanglement studies used it. Raises DeftError when a file
    is damaged or not what was published, or when a combination of factors is missing or there twice.
    """
    for file in files:
        _check_digest(file)
    chunks = [files[start : start + len(PARTS)] for start in range(0, len(files), len(PARTS))]
    places = [_places(category, info, space) for _, category, info in chunks]
    counts = np.bincount(np.concatenate(places), minlength=len(space))
    if (wrong := np.flatnonzero(counts != 1)).size:
        values = zip(space.names, np.unravel_index(wrong[0], space.sizes), strict=True)
        where = ", ".join(f"{name} {value}" for name, value in values)
        raise DeftError(
            f"SmallNORB in {files[0].parent} must have every combination of factors once, but has {counts[wrong[0]]} "
            f"images of {where}: the files do not belong together, or are not the published ones"
        )
    images = np.empty((len(space), 64, 64), np.uint8)
    with tqdm(total=len(space), desc="Converting SmallNORB", unit_scale=True, disable=None) as bar:
        for (pixels, *_), place in zip(chunks, places, strict=True):
            done = 0
            for block in published_format.blocks(pixels, np.dtype("u1"), (len(place), 2, 96, 96), _BLOCK):
                for target, image in zip(place[done:], block[:, 0], strict=False):
                    images[target] = np.asarray(Image.fromarray(image).resize((64, 64), Image.Resampling.LANCZOS))
                done += len(block)
                bar.update(len(block))
    return images


def _check_digest(file: Path) -> None:
    """Packed files have known digests; unpacked ones are judged by their contents."""
    if (known := SHA256.get(file.name)) is None:
        return
    with open(file, "rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != known:
        raise DeftError(
            f"{file} is not the published file (sha256 {found} instead of {known}): it is damaged or was packed anew; "
            "delete it and download it again, or unpack it with gunzip to have it judged by its contents"
        )


def _places(category: Path, info: Path, space: FactorSpace) -> np.ndarray:
    """Index in `space`, int64 [N], of every image of a chunk."""
    categories = published_format.read(category, np.dtype("<i4"), (None,))
    details = published_format.read(info, np.dtype("<i4"), (len(categories), 4))
    if (details[:, 2] % 2).any():  # azimuths are in steps of ten degrees, and every second one is taken
        raise DeftError(f"{info} has odd azimuths, which SmallNORB does not: is it another version of NORB?")
    details = details // (1, 1, 2, 1)
    columns = [categories, *details.T]  # category, instance, elevation, azimuth, lighting
    for name, size, column in zip(space.names, space.sizes, columns, strict=True):
        if column.min(initial=0) < 0 or column.max(initial=0) >= size:
            path = category if name == "category" else info
            raise DeftError(
                f"{path} is not what SmallNORB has there: {name} goes from {column.min()} to {column.max()}, and "
                f"should be in 0 to {size - 1}"
            )
    return np.ravel_multi_index(columns, space.sizes)

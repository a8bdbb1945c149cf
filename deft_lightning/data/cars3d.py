"""Cars3D: the published .mat files, in their archive or unpacked, converted to 64 x 64 images in memory."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path, PurePath

import numpy as np
import scipy.io
import torch
from PIL import Image

from deft_lightning.common.errors import DeftError
from deft_lightning.data import cache, download, published
from deft_lightning.data.base import StoredImages
from deft_lightning.data.factors import FactorSpace
from deft_lightning.data.progress import progress_bar

FOLDER = "cars3d"
"""Folder of the published files in the data folder."""
ARCHIVE = "nips2015-analogy-data.tar.gz"
URL = f"http://www.scottreed.info/files/{ARCHIVE}"
MD5 = "4e866a7919c1beedf53964e6f7a23686"
"""Digest of the published archive, from the disent library. None is published for the files in it."""
SPACE = FactorSpace(("elevation", "azimuth", "object_type"), (4, 24, 183))
CACHE = "cars3d.h5"

_TITLE = "Cars3D"
_KIND, _VERSION = "published Cars3D", 1


class Cars3D(StoredImages):
    """Cars3D: 17,568 images of car models, float32 [B, 3, 64, 64].

    Factors are elevation 4, azimuth 24 and object_type 183, object_type fastest, as in the public disentanglement
    studies; a type is one car. The published images have 128 x 128 pixels and are resized with Pillow's Lanczos filter,
    as those studies do. `root` is the folder of the prepared data (default: the user's cache folder); the published
    archive, or the .mat files in it, are in its folder `cars3d`. The data set takes 216 MB of memory. Raises
    `DeftError` when the files are not there, damaged or not the published ones.

    Reference: Reed et al., Deep Visual Analogy-Making, 2015; Locatello et al., Challenging Common Assumptions, 2019.
    """

    name = "cars3d"
    source = "published"
    shape = (3, 64, 64)
    space: FactorSpace = SPACE
    notices = (f"{_TITLE}: the published images, resized from 128 x 128 to 64 x 64 with a Lanczos filter.",)

    def __init__(self, root: str | os.PathLike[str] | None = None) -> None:
        prepared = load(root, self.space)
        self._pixels, self.digest = torch.from_numpy(prepared.arrays["images"]), prepared.digest[:16]


def load(root: str | os.PathLike[str] | None, space: FactorSpace = SPACE) -> cache.Prepared:
    """The published `images`, uint8 [len(space), 3, 64, 64]; the published files are converted once.

    The converted images are enough: the published files may be deleted. Raises `MissingDataError` when the data folder
    has neither or only damaged converted images, and `DeftError` when its files are not the published ones.
    """
    folder = cache.resolve_root(root)
    files = _files(folder / FOLDER)
    missing = (
        f"{folder / FOLDER} has no files of {_TITLE}: run `python -m deft_lightning.data prepare cars3d`, or save "
        f"{URL} there by hand."
    )

    def build() -> dict[str, np.ndarray | cache.Blocks]:
        if files[0].name == ARCHIVE:
            published.check_md5(files[0], MD5)
        return {"images": read(files, space)}

    return published.load_converted(folder / CACHE, files, build, kind=_KIND, version=_VERSION, missing=missing)


def prepare(root: str | os.PathLike[str] | None = None, space: FactorSpace = SPACE) -> str:
    """Convert the published files, after downloading the archive where they are missing; says where the images are.

    A damaged archive is replaced. Raises `DeftError` when it cannot be downloaded, with its address and the path to
    save it to by hand.
    """
    folder = cache.resolve_root(root)
    published.fetch_unless_good(
        _TITLE,
        lambda: load(root, space),
        lambda: download.fetch((URL,), folder / FOLDER / ARCHIVE, f"md5:{MD5}"),
    )
    return f"The published images of {_TITLE} are ready in {folder / CACHE}."


def _files(folder: Path) -> list[Path]:
    """The archive, or else the .mat files of the cars, anywhere in the folder."""
    if (archive := folder / ARCHIVE).exists():
        return [archive]
    return sorted((path for path in folder.rglob("*.mat") if _is_car(path)), key=lambda path: path.name)


def _is_car(path: PurePath) -> bool:
    return path.name.startswith("car_") and path.suffix == ".mat"  # the archive has other .mat files too


def read(files: list[Path], space: FactorSpace = SPACE) -> np.ndarray:
    """The images, uint8 [len(space), 3, 64, 64], of the archive or of the .mat files of all cars.

    A .mat file holds one car, `im` uint8 [128, 128, 3, azimuths, elevations]. Cars are numbered in the order of their
    file names. Raises `DeftError` when a file is damaged or not the published one, or there are too few or too many.
    """
    elevations, azimuths, cars = space.sizes
    images = np.empty((*space.sizes, 3, 64, 64), np.uint8)
    with progress_bar(f"Converting {_TITLE}", cars) as advance:
        for number, name, stream in _archived(files[0], cars) if files[0].name == ARCHIVE else _unpacked(files, cars):
            with published.readable(name, _TITLE):
                mesh = scipy.io.loadmat(stream, variable_names=["im"])["im"]
                published.check_array(name, _TITLE, "images", mesh, (128, 128, 3, azimuths, elevations))
            for elevation, azimuth in np.ndindex(elevations, azimuths):
                picture = Image.fromarray(np.ascontiguousarray(mesh[..., azimuth, elevation]))
                small = np.asarray(picture.resize((64, 64), Image.Resampling.LANCZOS))  # without aliasing
                images[elevation, azimuth, number] = small.transpose(2, 0, 1)
            advance(1)
    return images.reshape(-1, 3, 64, 64)


_Car = tuple[int, Path, BytesIO]  # its number, the name of its file for messages, and the contents of that file


def _unpacked(files: list[Path], cars: int) -> Iterator[_Car]:
    if len({path.name for path in files}) != cars or len(files) != cars:
        raise DeftError(
            f"{files[0].parent} has {len(files)} of the {cars} files of {_TITLE}: put each of them there once, or "
            f"save {URL} in the folder {FOLDER}."
        )
    for number, path in enumerate(files):
        with published.readable(path, _TITLE):
            contents = BytesIO(path.read_bytes())
        yield number, path, contents


def _archived(archive: Path, cars: int) -> Iterator[_Car]:
    with published.readable(archive, _TITLE), tarfile.open(archive) as tar:
        members = [member for member in tar if member.isreg() and _is_car(PurePath(member.name))]
        names = sorted(member.name for member in members)
        if len(names) != cars:
            raise DeftError(f"{archive} has {len(names)} of the {cars} files of {_TITLE}: {published.AGAIN}.")
        for member in members:  # in their order in the archive, which is read as a stream
            stream = tar.extractfile(member)
            assert stream is not None  # of a regular file
            yield names.index(member.name), archive / member.name, BytesIO(stream.read())

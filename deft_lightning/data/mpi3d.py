"""MPI3D: the published .npz files, unpacked once to a file that training maps into memory."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deft_lightning.common import checks
from deft_lightning.common.errors import DeftError
from deft_lightning.data import cache, published
from deft_lightning.data.base import MappedImages
from deft_lightning.data.factors import FactorSpace
from deft_lightning.data.zipped import ZippedArray

_NAMES = (
    "object_color",
    "object_shape",
    "object_size",
    "camera_height",
    "background_color",
    "horizontal_axis",
    "vertical_axis",
)
SPACE = FactorSpace(_NAMES, (6, 6, 2, 3, 3, 40, 40))
COMPLEX_SPACE = FactorSpace(_NAMES, (4, 4, 2, 3, 3, 40, 40))
"""Of the everyday objects: four shapes in four colours."""


class Subset(NamedTuple):
    """A published file: its name, its address, its factors, and its MD5 where that is public."""

    file: str
    url: str
    space: FactorSpace
    md5: str | None


_FOLDER = "https://storage.googleapis.com/disentanglement_dataset/Final_Dataset/"
SUBSETS = {
    "toy": Subset("mpi3d_toy.npz", f"{_FOLDER}mpi3d_toy.npz", SPACE, "55889cb7c7dfc655d6e0277beee88868"),
    "realistic": Subset(
        "mpi3d_realistic.npz", f"{_FOLDER}mpi3d_realistic.npz", SPACE, "59a6225b88b635365f70c91b3e52f70f"
    ),
    "real": Subset("mpi3d_real.npz", f"{_FOLDER}mpi3d_real.npz", SPACE, "0f33f609918fb5c97996692f91129802"),
    "real_complex": Subset(
        "real3d_complicated_shapes_ordered.npz",
        "https://drive.google.com/file/d/1Tp8eTdHxgUMtsZv5uAoYAbJR1BOa_OQm/view",
        COMPLEX_SPACE,
        None,
    ),
}
"""The published files, named as in the public repository of the data set; digests from the disent library."""

_TITLE = "MPI3D"
_KIND, _VERSION = "published MPI3D", 1
_BLOCK = 8192  # images unpacked at a time, 101 MB


class MPI3D(MappedImages):
    """MPI3D: images of an object on a robot's arm, float32 [B, 3, 64, 64].

    `subset` is "toy" (simple rendering), "realistic" (realistic rendering) or "real" (photographs), 1,036,800 images
    each, or "real_complex" (photographs of everyday objects), 460,800. Factors are object_color 6, object_shape 6,
    object_size 2, camera_height 3, background_color 3, horizontal_axis 40 and vertical_axis 40, vertical_axis fastest;
    "real_complex" has 4 colours and 4 shapes.

    `root` is the folder of the published files and of the prepared data (default: the user's cache folder). The images
    take 12.7 GB on disk, 5.7 GB for "real_complex", and stay there. Raises `DeftError` when the subset is unknown, its
    images are not there, or the file is not the published one.

    Reference: Gondal et al., On the Transfer of Inductive Bias from Simulation to the Real World, 2019.
    """

    name = "mpi3d"
    source = "published"
    shape = (3, 64, 64)

    def __init__(self, root: str | os.PathLike[str] | None = None, subset: str = "toy") -> None:
        checks.choice("data.subset", subset, SUBSETS)
        prepared = load(root, subset)
        self.name = f"mpi3d_{subset}"  # results of different subsets are never put together
        self.space = SUBSETS[subset].space
        self.notices = (f"{_TITLE} {subset}: the published images.",)
        self._pixels, self.digest = prepared.arrays["images"], prepared.digest[:16]


def load(root: str | os.PathLike[str] | None, subset: str) -> cache.Prepared:
    """The published `images` of a subset, uint8 [N, 64, 64, 3], mapped; the published file is unpacked once.

    The unpacked images are enough: the published file may be deleted. Raises `MissingDataError` when the data folder
    has neither or only damaged unpacked images, and `DeftError` when its file is not the published one.
    """
    folder, chosen = cache.resolve_root(root), SUBSETS[subset]
    path = folder / chosen.file
    missing = (
        f"{folder} has no {chosen.file} of {_TITLE}: download {chosen.url} and save it there under that name, or use "
        f"another data.subset: {', '.join(name for name in SUBSETS if name != subset)}."
    )

    def build() -> dict[str, np.ndarray | cache.Blocks]:
        published.check_md5(path, chosen.md5)
        shape = (len(chosen.space), 64, 64, 3)
        rows = _blocks(path, shape)
        return {"images": cache.Blocks(shape, np.dtype(np.uint8), rows, f"Unpacking {_TITLE} {subset}")}

    return published.load_converted(
        _cache_file(folder, subset),
        [path] if path.exists() else [],
        build,
        kind=f"{_KIND} {subset}",
        version=_VERSION,
        missing=missing,
        mapped=True,
    )


def prepare(root: str | os.PathLike[str] | None = None) -> str:
    """Unpack the published files that are in the data folder; says where the images are.

    Nothing is downloaded, since a file may have 12.7 GB. Raises `DeftError` when there is none, with an address, and
    when a file is damaged or not the published one.
    """
    folder = cache.resolve_root(root)
    ready = []
    for subset in SUBSETS:
        try:
            load(root, subset)
        except cache.MissingDataError as error:
            if error.damaged:
                raise
        else:
            ready.append(str(_cache_file(folder, subset)))
    if not ready:
        files = ", ".join(f"{subset.file} ({subset.url})" for subset in SUBSETS.values())
        raise DeftError(
            f"{folder} has no file of {_TITLE}, and none is downloaded, since they have up to 12.7 GB: save one of "
            f"these there: {files}."
        )
    return f"The published images of {_TITLE} are ready in {', '.join(ready)}."


def _cache_file(folder: Path, subset: str) -> Path:
    return folder / f"mpi3d_{subset}.h5"


def _blocks(path: Path, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """The images in blocks, uint8 [up to _BLOCK, 64, 64, 3], of a published file."""
    with published.readable(path, _TITLE), zipfile.ZipFile(path) as archive:
        images = ZippedArray(archive, "images")
        published.check_array(path, _TITLE, "images", images, shape)
        yield from images.blocks(_BLOCK)

"""The user's own images, with full, partial or no knowledge of their factors."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deft_lightning.common.errors import DeftError
from deft_lightning.data import cache
from deft_lightning.data.base import StoredImages
from deft_lightning.data.custom import labels as custom_labels
from deft_lightning.data.custom.images import Arrays, Folder, open_arrays


class CustomImages(StoredImages):
    """The user's own images, float32 [B, C, S, S]: an .npz or HDF5 file, or a folder of pictures.

    A file has its images under `images` or `imgs`: [N, H, W], [N, H, W, C] or [N, C, H, W], integers in 0 to
    255, floats in 0 to 1, or booleans. Its labels, if it has any, are numbers or strings [N, K] under
    `factors`, `labels` or `latents_classes`, their names under `factor_names` [K]. A folder is searched with
    its subfolders, in the order of the paths. Other images than [S, S] are squeezed or stretched to it.

    `labels` is a file that comes before those: CSV with the factors' names in its first line and one line for
    each image, or an `.npy` array [N, K]. For a folder, the first column of the CSV is `file`, the path
    within the folder. `image_size` is S in pixels; `channels` is 1 or 3 (default: as the images have it).

    Where the labels have every combination once, `space` is their grid and images are in its order. Where
    not, `space` is None and `factors` looks up the row. Without labels `factors` gives None. Raises DeftError
    when a file is missing, damaged or holds something else, or when labels do not fit the images.
    """

    name = "custom"
    source = "file"

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        labels: str | os.PathLike[str] | None = None,
        image_size: int = 64,
        channels: int | None = None,
    ) -> None:
        side = _whole_number(image_size, "image_size")
        found = _open(path, with_labels=labels is None)
        if labels is None:
            table = found.labels
        else:
            table = custom_labels.from_file(Path(labels).expanduser(), found.count, found.files)
        depth = found.channels if channels is None else _whole_number(channels, "channels")
        if depth not in (1, 3):
            raise DeftError(f"data.channels is {channels}, and should be 1 or 3")

        self.shape = (depth, side, side)
        grid = table.grid() if table is not None else None
        self.space, places = grid if grid is not None else (None, np.arange(found.count))
        pixels = np.empty((found.count, *self.shape), np.uint8)
        found.fill(pixels, places)  # straight into its place in the grid: no second copy
        self._pixels = torch.from_numpy(pixels)
        self._names: tuple[str, ...] = table.names if table is not None else ()
        self._factors = torch.from_numpy(table.values) if table is not None and self._names else None  # [N, K]
        self._path = found.path
        contents = {"images": pixels}
        if table is not None:
            contents["factors"] = table.values[np.argsort(places)]  # in the order of the images
        self.digest = cache.digest(contents)[:16]
        self.notices = (*found.notices, *(table.notices if table is not None else ()), *self._conversions(found))

    def _conversions(self, found: Arrays | Folder) -> tuple[str, ...]:
        depth, side, _ = self.shape
        notices = []
        if found.size != (side, side):
            size = "images of different sizes" if found.size is None else f"images of {found.size[0]} x {found.size[1]}"
            notices.append(f"{found.path}: {size} are resized to {side} x {side}.")
        if found.channels != depth:
            notices.append(f"{found.path}: images are converted to {'grey' if depth == 1 else 'RGB'}.")
        if self._names and self.space is None:
            notices.append(
                f"{found.path}: the labels are no full grid, so images are drawn row by row, and the scores that "
                "hold a factor fixed take their batches from the rows that share its value."
            )
        return tuple(notices)

    @property
    def factor_names(self) -> tuple[str, ...]:
        """Names of the K labelled factors; empty when there are no labels."""
        return self._names

    def factors(self, indices: Tensor) -> Tensor | None:
        """Factor values, int64 [B, K], of the images at `indices` [B]; None when there are no labels."""
        if self.space is not None or self._factors is None:
            return super().factors(indices)
        return self._factors[indices.cpu()].to(indices.device)

    @property
    def provenance(self) -> dict[str, str]:
        """The file or folder the images are from, and the digest of pixels and labels."""
        return {**super().provenance, "path": str(self._path)}


def _open(given: str | os.PathLike[str] | None, with_labels: bool) -> Arrays | Folder:
    if given is None:
        raise DeftError("data.path should say where the images are: an .npz or .h5 file, or a folder")
    path = Path(given).expanduser()
    if path.is_dir():
        return Folder(path)
    if not path.exists():
        raise DeftError(f"data.path is {path}, and there is no such file or folder")
    if path.suffix.lower() not in (".npz", ".h5", ".hdf5"):
        raise DeftError(f"data.path is {path}, and should be an .npz or .h5 file or a folder of images")
    return open_arrays(path, with_labels)


def _whole_number(given: object, name: str) -> int:
    try:
        number = int(str(given))  # the command line gives strings
    except ValueError:
        number = 0
    if number < 1:
        raise DeftError(f"data.{name} is {given}, and should be a whole number above 0")
    return number

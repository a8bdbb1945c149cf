"""An array in an .npz or HDF5 file, read some rows at a time, so that it is never in memory as a whole."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from deft_lightning.common.errors import DeftError
from deft_lightning.data.zipped import ZippedArray

_ROWS = 1024  # at a time
_BYTES = 1 << 26  # at a time, if a row is that small


@dataclass(frozen=True)
class StoredArray:
    """The array called `key` in the file `path`; nothing of its values is read before `blocks`."""

    path: Path
    key: str
    shape: tuple[int, ...]
    dtype: np.dtype
    chunk: int = 1
    """Rows that are stored together."""

    def blocks(self) -> Iterator[np.ndarray]:
        """The rows in order, in arrays [up to some thousand, *shape[1:]]; the file is open only meanwhile."""
        size = math.prod(self.shape[1:]) * self.dtype.itemsize
        rows = max(1, min(_ROWS, _BYTES // max(1, size)))
        rows = max(1, rows // self.chunk) * self.chunk  # whole chunks, so that none is unpacked twice
        read = _npz_blocks if is_npz(self.path) else _hdf5_blocks
        with closing(read(self, rows)) as blocks:
            yield from blocks


def is_npz(path: Path) -> bool:
    """Whether a file is read as .npz; otherwise it is HDF5."""
    return path.suffix.lower() == ".npz"


def find(path: Path, key: str) -> StoredArray:
    """The array called `key`. Raises `DeftError` for a group or Python objects, and as NumPy and h5py do for damage."""
    if is_npz(path):
        with zipfile.ZipFile(path) as archive:
            array = ZippedArray(archive, key)
        if array.dtype.hasobject:
            raise DeftError(f"{path} holds Python objects, which are never loaded: save plain arrays.")
        return StoredArray(path, key, array.shape, array.dtype)
    with h5py.File(path, "r") as file:
        dataset = file[key]
        if not isinstance(dataset, h5py.Dataset):
            raise DeftError(f"{path} has a group called {key}: store the images as one array.")
        chunk = dataset.chunks[0] if dataset.chunks else 1
        return StoredArray(path, key, dataset.shape, dataset.dtype, chunk)


def _npz_blocks(array: StoredArray, rows: int) -> Generator[np.ndarray, None, None]:
    with zipfile.ZipFile(array.path) as archive:
        zipped = ZippedArray(archive, array.key)
        if not zipped.by_column:
            yield from zipped.blocks(rows)
            return
        whole = zipped.whole()
        yield from (whole[start : start + rows] for start in range(0, array.shape[0], rows))


def _hdf5_blocks(array: StoredArray, rows: int) -> Generator[np.ndarray, None, None]:
    with h5py.File(array.path, "r") as file:
        dataset = file[array.key]
        yield from (dataset[start : start + rows] for start in range(0, array.shape[0], rows))

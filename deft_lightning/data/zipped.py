"""An array in an .npz archive, read some rows at a time: `numpy.load` would unpack it as a whole."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator

import numpy as np


class ZippedArray:
    """The array called `name` of an open archive, which can be read once. Its type and shape are known before.

    Raises as `zipfile` and NumPy do where the array is missing or damaged.
    """

    def __init__(self, archive: zipfile.ZipFile, name: str) -> None:
        self._stream = archive.open(f"{name}.npy")
        version = np.lib.format.read_magic(self._stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        self.shape, self.by_column, self.dtype = read_header(self._stream)
        # Before anything is allocated: a damaged header may tell of terabytes.
        size = archive.getinfo(f"{name}.npy").file_size - self._stream.tell()
        if not self.dtype.hasobject and math.prod(self.shape) * self.dtype.itemsize != size:
            raise ValueError("the header tells of another length")

    def whole(self) -> np.ndarray:
        """All of it at once. Raises as `zipfile` does when it is damaged."""
        with self._stream as stream:
            return np.frombuffer(stream.read(), self.dtype).reshape(self.shape, order="F" if self.by_column else "C")

    def blocks(self, rows: int) -> Iterator[np.ndarray]:
        """The array in blocks [up to `rows`, *shape[1:]].

        Raises `ValueError` when it is stored column by column, so that its rows lie nowhere together, and as `zipfile`
        does when it is damaged.
        """
        if self.by_column:
            raise ValueError("the array is stored column by column")
        with self._stream as stream:
            size = math.prod(self.shape[1:]) * self.dtype.itemsize
            for start in range(0, self.shape[0], rows):
                count = min(rows, self.shape[0] - start)
                yield np.frombuffer(stream.read(count * size), self.dtype).reshape(count, *self.shape[1:])
            stream.read(1)  # at the end of the data, zipfile compares their checksum

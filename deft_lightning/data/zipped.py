"""An array in an .npz archive, read some rows at a time: `numpy.load` would unpack it as a whole."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator

import numpy as np

from deft_lightning.common.errors import DeftError


class ZippedArray:
    """The array called `name` of an open archive, which can be read once. Its type and shape are known before.

    Raises `DeftError` for Python objects, and as `zipfile` and NumPy do where the array is missing or damaged.
    """

    def __init__(self, archive: zipfile.ZipFile, name: str) -> None:
        self._stream = archive.open(f"{name}.npy")
        version = np.lib.format.read_magic(self._stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        self.shape, self._by_column, self.dtype = read_header(self._stream)
        if self.dtype.hasobject:
            raise DeftError(f"{archive.filename} holds Python objects, which are never loaded: save plain arrays.")
        # Before anything is allocated: a damaged header may tell of terabytes.
        size = archive.getinfo(f"{name}.npy").file_size - self._stream.tell()
        if math.prod(self.shape) * self.dtype.itemsize != size:
            raise ValueError("the header tells of another length")

    def blocks(self, rows: int) -> Iterator[np.ndarray]:
        """The array in blocks [up to `rows`, *shape[1:]]. Raises as `zipfile` does when it is damaged."""
        with self._stream as stream:
            if self._by_column:  # its rows lie nowhere together
                whole = np.frombuffer(stream.read(), self.dtype).reshape(self.shape, order="F")
                yield from (whole[start : start + rows] for start in range(0, self.shape[0], rows))
                return
            size = math.prod(self.shape[1:]) * self.dtype.itemsize
            for start in range(0, self.shape[0], rows):
                count = min(rows, self.shape[0] - start)
                yield np.frombuffer(stream.read(count * size), self.dtype).reshape(count, *self.shape[1:])
            stream.read(1)  # at the end of the data, zipfile compares their checksum

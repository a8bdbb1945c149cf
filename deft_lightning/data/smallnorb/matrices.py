"""Reads the binary matrix format of the NORB data sets, plain or packed with gzip.

A file holds an int32 magic number, which stands for the type; the int32 number of dimensions; their int32 sizes, at
least three of them (unused ones have no meaning); then the values, row by row. Everything is little-endian.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import numpy as np

from deft_lightning.common.errors import DeftError

MAGICS: dict[int, np.dtype] = {0x1E3D4C55: np.dtype("u1"), 0x1E3D4C54: np.dtype("<i4")}
"""The two types of the format that SmallNORB uses."""

_MOST_DIMENSIONS = 8  # more means that the file is damaged
_AGAIN = "delete it and download it again"


class Header(NamedTuple):
    """Type and shape of the matrix in a file."""

    dtype: np.dtype
    shape: tuple[int, ...]


def header(path: Path) -> Header:
    """Type and shape of the matrix in `path`.

    Raises `DeftError` when the file is missing, or does not start as a matrix of bytes or integers does.
    """
    with _opened(path) as stream:
        return _header(stream, path)


def blocks(path: Path, dtype: np.dtype, shape: tuple[int | None, ...], rows: int) -> Iterator[np.ndarray]:
    """The matrix in `path` in blocks [up to rows, *shape[1:]].

    `shape` is None where any size is allowed. Raises `DeftError` when the file is missing, damaged, truncated or too
    long, or has another type or shape.
    """
    with _opened(path) as stream:
        actual = _header(stream, path)
        fits = len(actual.shape) == len(shape) and all(
            size in (None, actual_size) for size, actual_size in zip(shape, actual.shape, strict=True)
        )
        if actual.dtype != dtype or not fits:
            wanted = ", ".join("any" if size is None else str(size) for size in shape)
            raise DeftError(
                f"{path} is not of SmallNORB (it holds {actual.dtype} {list(actual.shape)} instead of "
                f"{dtype} [{wanted}]): {_AGAIN}."
            )
        size = int(np.prod(actual.shape[1:])) * dtype.itemsize
        for start in range(0, actual.shape[0], rows):
            count = min(rows, actual.shape[0] - start)
            data = _exactly(stream, count * size, path)
            yield np.frombuffer(data, dtype).reshape(count, *actual.shape[1:])
        if stream.read(1):  # at the end of the data, gzip also compares its checksum
            raise DeftError(f"{path} is longer than its header says: {_AGAIN}.")


def read(path: Path, dtype: np.dtype, shape: tuple[int | None, ...]) -> np.ndarray:
    """The whole of a small matrix; arguments and errors as in `blocks`."""
    parts = list(blocks(path, dtype, shape, 1 << 16))
    return np.concatenate(parts) if parts else np.empty([size or 0 for size in shape], dtype)


def _header(stream: BinaryIO, path: Path) -> Header:
    magic, count = struct.unpack("<Ii", _exactly(stream, 8, path))
    if magic not in MAGICS:
        expected = " or ".join(f"{number:#010x}" for number in MAGICS)
        raise DeftError(f"{path} is not of SmallNORB (it begins with {magic:#010x} instead of {expected}): {_AGAIN}.")
    if not 1 <= count <= _MOST_DIMENSIONS:
        raise DeftError(f"{path} is damaged (its matrix has {count} dimensions): {_AGAIN}.")
    sizes = struct.unpack(f"<{max(count, 3)}i", _exactly(stream, 4 * max(count, 3), path))
    if min(sizes[:count]) < 0:
        raise DeftError(f"{path} is damaged (its matrix has the shape {list(sizes[:count])}): {_AGAIN}.")
    return Header(MAGICS[magic], sizes[:count])


def _exactly(stream: BinaryIO, count: int, path: Path) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise DeftError(f"{path} is incomplete: {_AGAIN}.")
    return data


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a file, unpacked where they are packed; its name does not matter."""
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if packed:
                yield cast(BinaryIO, gzip.GzipFile(fileobj=file))
            else:
                yield file
    except FileNotFoundError as error:
        raise DeftError(f"{path} is missing: download it.") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DeftError(f"{path} cannot be unpacked: {_AGAIN}.") from error
    except OSError as error:
        raise DeftError(f"{path} cannot be read ({error.strerror or error}): check its permissions.") from error

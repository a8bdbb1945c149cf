"""Reads the binary matrices that NORB is published in, plain or packed with gzip.

A file is: int32 magic number, which names the type; int32 number of dimensions; their int32 sizes, at least
three of them (the rest mean nothing); then the values row by row. Everything is little-endian.
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

_MOST_DIMENSIONS = 8  # more is damage, not data
_AGAIN = "it is damaged or its download broke off; delete it and download it again"


class Header(NamedTuple):
    """What a file says about its matrix before the values."""

    dtype: np.dtype
    shape: tuple[int, ...]


def header(path: Path) -> Header:
    """Type and shape of the matrix in `path`.

    Raises DeftError when there is no such file, or it does not begin as a matrix of bytes or integers does.
    """
    with _opened(path) as stream:
        return _header(stream, path)


def blocks(path: Path, dtype: np.dtype, shape: tuple[int | None, ...], rows: int) -> Iterator[np.ndarray]:
    """The matrix in `path`, `rows` of its rows at a time: each [at most rows, *shape[1:]].

    `shape` has None where any size is right. Raises DeftError when the file is missing, damaged, truncated or
    longer than it says, or when type or shape are others.
    """
    with _opened(path) as stream:
        found = _header(stream, path)
        fits = len(found.shape) == len(shape) and all(
            want in (None, have) for want, have in zip(shape, found.shape, strict=True)
        )
        if found.dtype != dtype or not fits:
            wanted = ", ".join("any" if size is None else str(size) for size in shape)
            raise DeftError(
                f"{path} is not what SmallNORB has there: it holds {found.dtype} {list(found.shape)}, and should "
                f"hold {dtype} [{wanted}]"
            )
        size = int(np.prod(found.shape[1:])) * dtype.itemsize
        for start in range(0, found.shape[0], rows):
            count = min(rows, found.shape[0] - start)
            data = _exactly(stream, count * size, path)
            yield np.frombuffer(data, dtype).reshape(count, *found.shape[1:])
        if stream.read(1):  # reading past the end also makes gzip compare its checksum
            raise DeftError(f"{path} is longer than its header says: {_AGAIN}")


def read(path: Path, dtype: np.dtype, shape: tuple[int | None, ...]) -> np.ndarray:
    """The whole matrix in `path`; as `blocks`, for small ones."""
    parts = list(blocks(path, dtype, shape, 1 << 16))
    return np.concatenate(parts) if parts else np.empty([size or 0 for size in shape], dtype)


def _header(stream: BinaryIO, path: Path) -> Header:
    magic, count = struct.unpack("<Ii", _exactly(stream, 8, path))
    if magic not in MAGICS:
        raise DeftError(
            f"{path} is not a SmallNORB matrix: it begins with {magic:#010x}, and should with "
            f"{' or '.join(f'{known:#010x}' for known in MAGICS)}; delete it and download it again"
        )
    if not 1 <= count <= _MOST_DIMENSIONS:
        raise DeftError(f"{path} says that its matrix has {count} dimensions: {_AGAIN}")
    sizes = struct.unpack(f"<{max(count, 3)}i", _exactly(stream, 4 * max(count, 3), path))
    if min(sizes[:count]) < 0:
        raise DeftError(f"{path} says that its matrix has the shape {list(sizes[:count])}: {_AGAIN}")
    return Header(MAGICS[magic], sizes[:count])


def _exactly(stream: BinaryIO, count: int, path: Path) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise DeftError(f"{path} ends too early: {_AGAIN}")
    return data


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The file's bytes, unpacked when it is packed, whatever its name says."""
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if packed:
                yield cast(BinaryIO, gzip.GzipFile(fileobj=file))
            else:
                yield file
    except FileNotFoundError as error:
        raise DeftError(f"there is no file {path}") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DeftError(f"{path} cannot be unpacked: {_AGAIN}") from error
    except OSError as error:
        raise DeftError(f"cannot read {path}: {error.strerror or error}") from error

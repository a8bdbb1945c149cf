"""Prepared data sets on disk: written once, whole or not at all, and checked on every load.

A cache is one HDF5 file of uncompressed arrays. Its attributes name what it holds (`kind`), the version of
the code that made it (`version`) and a BLAKE2b digest of every array, so that a damaged, half-written or
outdated file is noticed and made again, never read as if it were good. Where it was made from files, `origin`
tells which they were, so that other files in their place are noticed too.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import filelock
import h5py
import numpy as np
import platformdirs
from tqdm import tqdm

from deft_lightning.common import memory
from deft_lightning.common.errors import DeftError

log = logging.getLogger(__name__)


class StaleCacheError(Exception):
    """A cache file that must be made again; the message says why."""


class MissingDataError(DeftError):
    """Prepared data that are not there or not good, and cannot be made; `damaged` tells which of the two."""

    def __init__(self, message: str, damaged: bool) -> None:
        super().__init__(message)
        self.damaged = damaged


class Prepared(NamedTuple):
    """What a cache file holds: its arrays by name, and their digest in hex."""

    arrays: dict[str, np.ndarray]
    digest: str


class Blocks(NamedTuple):
    """An array that is made some rows at a time, and so is never in memory as a whole while it is written."""

    shape: tuple[int, ...]
    dtype: np.dtype
    rows: Iterable[np.ndarray]


def default_root() -> Path:
    """The user's cache folder for prepared data, as the operating system has it."""
    return Path(platformdirs.user_cache_dir("deft_lightning"))


def resolve_root(root: str | os.PathLike[str] | None) -> Path:
    """The cache folder to use: `root` if given (a leading ~ is the home folder), else `default_root()`."""
    return default_root() if root is None else Path(root).expanduser()


def origin_of(files: Sequence[Path]) -> str:
    """What tells whether source files were replaced: their names, sizes and times of change."""
    return "; ".join(f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files)


def load_or_build(
    path: Path,
    build: Callable[[], Mapping[str, np.ndarray | Blocks]],
    *,
    kind: str,
    version: int,
    origin: str | None = None,
) -> Prepared:
    """The arrays in the cache file `path`, made by `build` and written there when it is absent or not good.

    Several processes may call this at once: one builds, the others wait for it and read. A good file in a
    folder that cannot be written is read as it is. Raises DeftError when the folder cannot be written or the
    disk is full; a half-written file never gets the name `path`.
    """
    with suppress(StaleCacheError, FileNotFoundError):
        return read(path, kind=kind, version=version, origin=origin)
    with lock(path):
        try:
            # Another process may have finished meanwhile.
            return read(path, kind=kind, version=version, origin=origin)
        except FileNotFoundError:
            pass
        except StaleCacheError as reason:
            log.warning("%s is made again: %s", path, reason)
        write(path, build(), kind=kind, version=version, origin=origin)
        memory.trim()  # what building took and freed
        # Read back rather than kept: what was built is in memory once at most, and what is used has been checked.
        try:
            return read(path, kind=kind, version=version, origin=origin)
        except (StaleCacheError, FileNotFoundError) as error:
            raise DeftError(
                f"the prepared data {path} cannot be read back as they were written: check the disk, or choose "
                "another folder with data.root"
            ) from error


def load(path: Path, *, kind: str, version: int, otherwise: str) -> Prepared:
    """The arrays in the cache file `path`, which nothing is there to make again from.

    Raises MissingDataError when it is absent or not good; `otherwise` ends the sentence.
    """
    try:
        return read(path, kind=kind, version=version)
    except FileNotFoundError as error:
        raise MissingDataError(otherwise, damaged=False) from error
    except StaleCacheError as error:
        message = f"the prepared data {path} cannot be used ({error}), and {otherwise}"
        raise MissingDataError(message, damaged=True) from error


def read(path: Path, *, kind: str, version: int, origin: str | None = None) -> Prepared:
    """All arrays of a cache file, digests checked.

    Raises FileNotFoundError when there is none and StaleCacheError when it is damaged, unfinished, of another
    version, of another kind or, unless `origin` is None, made from other files.
    """
    try:
        if not path.exists():
            raise FileNotFoundError(path)
        with h5py.File(path, "r") as file:
            found = (str(file.attrs.get("kind")), int(file.attrs.get("version", -1)))
            if found != (kind, version):
                raise StaleCacheError(f"it holds {found[0]} version {found[1]}, not {kind} version {version}")
            if origin is not None and file.attrs.get("origin") != origin:
                raise StaleCacheError("the files it was made from have changed")
            arrays = {name: _read_array(dataset) for name, dataset in file.items()}
            found_digest = digest(arrays)
            if found_digest != file.attrs["digest"]:
                raise StaleCacheError("its digest does not match: the file is damaged")
    except (StaleCacheError, FileNotFoundError):
        raise
    except PermissionError as error:
        raise DeftError(f"cannot read the prepared data {path}: {error.strerror or error}") from error
    except Exception as error:  # h5py reports damage as OSError, KeyError, RuntimeError or ValueError
        raise StaleCacheError("it is damaged or was not written to its end") from error
    return Prepared(arrays, found_digest)


def _read_array(dataset: h5py.Dataset) -> np.ndarray:
    array = np.empty(dataset.shape, dataset.dtype)
    if array.size:
        dataset.read_direct(array)  # straight into place: no second copy in memory
    return array


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """BLAKE2b digest, in hex, of the names, types, shapes and bytes of some arrays."""
    hasher = hashlib.blake2b(digest_size=32)
    for name in sorted(arrays):
        hasher.update(_description(name, arrays[name]))
        hasher.update(_bytes(arrays[name]))
    return hasher.hexdigest()


def _description(name: str, array: np.ndarray | Blocks) -> bytes:
    return f"{name} {array.dtype.str} {array.shape} ".encode()


def _bytes(array: np.ndarray) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def write(
    path: Path, arrays: Mapping[str, np.ndarray | Blocks], *, kind: str, version: int, origin: str | None = None
) -> None:
    """Write a cache file under a temporary name beside `path`, then rename it: readers see all or nothing.

    One writer at a time: `load_or_build` holds a lock. Raises DeftError when the folder cannot be written or
    the disk is full; the temporary file is removed.
    """
    # Always the same name, so that what a killed process left behind is written over, not piled up.
    temporary = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # HDF5 writes through Python's file object: a full disk is then an OSError with its reason.
        with open(temporary, "w+b") as stream:
            with h5py.File(stream, "w") as file:
                file.attrs["kind"], file.attrs["version"] = kind, version
                file.attrs["origin"] = origin or ""
                hasher = hashlib.blake2b(digest_size=32)
                for name in sorted(arrays):
                    hasher.update(_description(name, arrays[name]))
                    _write_array(file, name, arrays[name], hasher)
                file.attrs["digest"] = hasher.hexdigest()
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        raise DeftError(
            f"cannot write the prepared data {path}: {_reason(error)}; free some space or choose another "
            "folder with data.root"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _write_array(file: h5py.File, name: str, array: np.ndarray | Blocks, hasher: hashlib.blake2b) -> None:
    dataset = file.create_dataset(name, array.shape, array.dtype)
    done = 0
    for rows in array.rows if isinstance(array, Blocks) else (array,):
        dataset[done : done + len(rows)] = rows
        hasher.update(_bytes(rows))
        done += len(rows)


def _reason(error: BaseException) -> str:
    if isinstance(error, FileExistsError | NotADirectoryError):
        return f"{error.filename} is a file, not a folder"
    return (isinstance(error, OSError) and error.strerror) or str(error).splitlines()[0]


def with_progress(blocks: Iterable[np.ndarray], total: int, description: str) -> Iterator[np.ndarray]:
    """The same blocks; a bar shows how many of `total` rows have gone by."""
    with tqdm(total=total, desc=description, unit_scale=True, disable=None) as bar:
        for rows in blocks:
            yield rows
            bar.update(len(rows))


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold the lock beside `path`; the operating system lets go of it when its holder dies.

    Raises DeftError when the folder cannot be written.
    """
    held = filelock.FileLock(path.with_name(path.name + ".lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            held.acquire(timeout=0)
        except filelock.Timeout:
            log.info("another process prepares %s: waiting for it", path)
            held.acquire()
    except (OSError, NotImplementedError) as error:
        raise DeftError(
            f"cannot write the prepared data {path}: {_reason(error)}; choose another folder with data.root"
        ) from error
    try:
        yield
    finally:
        held.release()

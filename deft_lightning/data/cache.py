"""Prepared data sets on disk: written once, whole or not at all, and checked on every load.

A cache is one HDF5 file of uncompressed arrays. Its attributes name what it holds (`kind`), the version of
the code that made it (`version`) and a BLAKE2b digest of every array, so that a damaged, half-written or
outdated file is noticed and made again, never read as if it were good.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock
import h5py
import numpy as np
import platformdirs

from deft_lightning.errors import DeftError

log = logging.getLogger(__name__)


class StaleCacheError(Exception):
    """A cache file that must be made again; the message says why."""


def default_root() -> Path:
    """The user's cache folder for prepared data, as the operating system has it."""
    return Path(platformdirs.user_cache_dir("deft_lightning"))


def resolve_root(root: str | os.PathLike[str] | None) -> Path:
    """The cache folder to use: `root` if given (a leading ~ is the home folder), else `default_root()`."""
    return default_root() if root is None else Path(root).expanduser()


def load_or_build(
    path: Path, build: Callable[[], Mapping[str, np.ndarray]], *, kind: str, version: int
) -> dict[str, np.ndarray]:
    """The arrays in the cache file `path`, made by `build` and written there when it is absent or not good.

    Several processes may call this at once: one builds, the others wait for it and read. A good file in a
    folder that cannot be written is read as it is. Raises DeftError when the folder cannot be written or the
    disk is full; a half-written file never gets the name `path`.
    """
    with suppress(StaleCacheError, FileNotFoundError):
        return read(path, kind=kind, version=version)
    with lock(path):
        try:
            return read(path, kind=kind, version=version)  # another process may have finished meanwhile
        except FileNotFoundError:
            pass
        except StaleCacheError as reason:
            log.warning("%s is made again: %s", path, reason)
        arrays = dict(build())
        write(path, arrays, kind=kind, version=version)
        return arrays


def read(path: Path, *, kind: str, version: int) -> dict[str, np.ndarray]:
    """All arrays of a cache file, digests checked.

    Raises FileNotFoundError when there is none and StaleCacheError when it is damaged, unfinished, of another
    version or of another kind.
    """
    try:
        if not path.exists():
            raise FileNotFoundError(path)
        with h5py.File(path, "r") as file:
            found = (str(file.attrs.get("kind")), int(file.attrs.get("version", -1)))
            if found != (kind, version):
                raise StaleCacheError(f"it holds {found[0]} version {found[1]}, not {kind} version {version}")
            arrays = {name: _read_array(dataset) for name, dataset in file.items()}
            if digest(arrays) != file.attrs["digest"]:
                raise StaleCacheError("its digest does not match: the file is damaged")
    except (StaleCacheError, FileNotFoundError):
        raise
    except PermissionError as error:
        raise DeftError(f"cannot read the prepared data {path}: {error.strerror or error}") from error
    except Exception as error:  # h5py reports damage as OSError, KeyError, RuntimeError or ValueError
        raise StaleCacheError("it is damaged or was not written to its end") from error
    return arrays


def _read_array(dataset: h5py.Dataset) -> np.ndarray:
    array = np.empty(dataset.shape, dataset.dtype)
    if array.size:
        dataset.read_direct(array)  # straight into place: no second copy in memory
    return array


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """BLAKE2b digest, in hex, of the names, types, shapes and bytes of some arrays."""
    hasher = hashlib.blake2b(digest_size=32)
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        hasher.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        hasher.update(array.reshape(-1).view(np.uint8).data)
    return hasher.hexdigest()


def write(path: Path, arrays: Mapping[str, np.ndarray], *, kind: str, version: int) -> None:
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
                file.attrs["digest"] = digest(arrays)
                for name, array in arrays.items():
                    file.create_dataset(name, data=array)
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


def _reason(error: BaseException) -> str:
    if isinstance(error, FileExistsError | NotADirectoryError):
        return f"{error.filename} is a file, not a folder"
    return (isinstance(error, OSError) and error.strerror) or str(error).splitlines()[0]


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

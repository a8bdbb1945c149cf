"""Prepared data sets on disk: written whole or not at all, and checked on every load.

A cache is one HDF5 file of uncompressed arrays. Its attributes are `kind` (what it holds), `version` (of the code that
made it), `digest` (BLAKE2b of all arrays) and `origin` (the source files it was made from, if any). A damaged,
unfinished or outdated file is therefore noticed and rebuilt, and never used. Arrays that are larger than memory are
mapped instead of read: then all of that is checked except the digest.
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

from deft_lightning.common import files, memory
from deft_lightning.common.errors import DeftError, first_line
from deft_lightning.data.progress import progress_bar

log = logging.getLogger(__name__)


class StaleCacheError(Exception):
    """A cache file cannot be used and must be rebuilt; the message says why."""


class MissingDataError(DeftError):
    """There is no usable prepared data, and nothing to make it from; `damaged` where there is an unusable file."""

    def __init__(self, message: str, damaged: bool) -> None:
        super().__init__(message)
        self.damaged = damaged


class Prepared(NamedTuple):
    """The contents of a cache file: its arrays by name, in memory or mapped, and their digest in hex."""

    arrays: dict[str, np.ndarray]
    digest: str


class Blocks(NamedTuple):
    """An array that is made and written some rows at a time, so that it is never in memory as a whole.

    `description` is the text beside the progress bar, such as "Rendering dSprites".
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    rows: Iterable[np.ndarray]
    description: str


def default_root() -> Path:
    """The folder of prepared data in the user's cache folder of the operating system."""
    return Path(platformdirs.user_cache_dir("deft_lightning"))


def resolve_root(root: str | os.PathLike[str] | None) -> Path:
    """The folder of prepared data: `root`, where a leading ~ is the home folder, or by default `default_root()`."""
    return default_root() if root is None else Path(root).expanduser()


def origin_of(sources: Sequence[Path]) -> str:
    """Names, sizes and modification times of source files, which differ when a file is replaced."""
    return "; ".join(f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in sources)


def load_or_build(
    path: Path,
    build: Callable[[], Mapping[str, np.ndarray | Blocks]],
    *,
    kind: str,
    version: int,
    origin: str | None = None,
    mapped: bool = False,
) -> Prepared:
    """The arrays in the cache file `path`; where it is missing or stale, `build` makes them and they are written first.

    With `mapped` they stay on disk, and the system reads the parts of the file that are used.

    Several processes may call this at once: one builds, the others wait for it and read. A good file in a folder
    without write permission is read. Raises `DeftError` when the folder cannot be written or the disk is full; a
    half-written file never gets the name `path`.
    """
    with suppress(StaleCacheError, FileNotFoundError):
        return read(path, kind=kind, version=version, origin=origin, mapped=mapped)
    with lock(path):
        try:
            # Another process may have finished meanwhile.
            return read(path, kind=kind, version=version, origin=origin, mapped=mapped)
        except FileNotFoundError:
            pass
        except StaleCacheError as reason:
            log.warning("%s is rebuilt: %s.", path, reason)
        write(path, build(), kind=kind, version=version, origin=origin)
        memory.trim()  # what building took and freed
        # Read from the file: then at most one copy is in memory, and what is used has passed the checks.
        try:
            return read(path, kind=kind, version=version, origin=origin, mapped=mapped)
        except (StaleCacheError, FileNotFoundError) as error:
            raise DeftError(
                f"{path} does not hold what was just written to it: check the disk, or choose another folder with "
                "data.root."
            ) from error


def load(path: Path, *, kind: str, version: int, missing: str, mapped: bool = False) -> Prepared:
    """Read a cache file whose source files are gone, so that it cannot be rebuilt; `mapped` as in `load_or_build`.

    Raises `MissingDataError` when it is missing or stale; `missing` is the sentence about what is missing.
    """
    try:
        return read(path, kind=kind, version=version, mapped=mapped)
    except FileNotFoundError as error:
        raise MissingDataError(missing, damaged=False) from error
    except StaleCacheError as error:
        raise MissingDataError(f"{path} cannot be used ({error}), and {missing}", damaged=True) from error


def read(path: Path, *, kind: str, version: int, origin: str | None = None, mapped: bool = False) -> Prepared:
    """All arrays of a cache file, with their digest checked.

    With `mapped` they are memory maps that cannot be written to. Their digest is then the one that the file names: to
    compute it would read gigabytes at the start of every run. A file that was cut short is noticed all the same.

    Raises `FileNotFoundError` when it is missing, `StaleCacheError` when it is damaged, unfinished, of another kind or
    version or, unless `origin` is None, made from other files, and `DeftError` when it may not be read.
    """
    try:
        if not path.exists():
            raise FileNotFoundError(path)
        with h5py.File(path, "r") as file:
            stored = (str(file.attrs.get("kind")), int(file.attrs.get("version", -1)))
            if stored != (kind, version):
                raise StaleCacheError(f"it holds {stored[0]} version {stored[1]}, not {kind} version {version}")
            if origin is not None and file.attrs.get("origin") != origin:
                raise StaleCacheError("the files it was made from have changed")
            if mapped:
                return Prepared(
                    {name: _map_array(path, dataset) for name, dataset in file.items()}, str(file.attrs["digest"])
                )
            arrays = {name: _read_array(dataset) for name, dataset in file.items()}
            actual_digest = digest(arrays)
            if actual_digest != file.attrs["digest"]:
                raise StaleCacheError("it is damaged: its digest does not match")
    except (StaleCacheError, FileNotFoundError):
        raise
    except PermissionError as error:
        raise DeftError(
            f"{path} cannot be read ({error.strerror or error}): change its permissions, or choose another folder with "
            "data.root."
        ) from error
    except Exception as error:  # h5py reports damage as OSError, KeyError, RuntimeError or ValueError
        raise StaleCacheError("it is damaged or incomplete") from error
    return Prepared(arrays, actual_digest)


def _read_array(dataset: h5py.Dataset) -> np.ndarray:
    array = np.empty(dataset.shape, dataset.dtype)
    if array.size:
        dataset.read_direct(array)  # no second copy in memory
    return array


def _map_array(path: Path, dataset: h5py.Dataset) -> np.ndarray:
    # Raises where the file is too short, and where HDF5 stores the array in pieces or not at all (the offset is None).
    return np.asarray(np.memmap(path, dataset.dtype, "r", int(dataset.id.get_offset()), dataset.shape))


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
    """Write a cache file whole or not at all. One writer at a time: `load_or_build` holds a lock.

    Raises `DeftError` when the folder cannot be written or the disk is full.
    """
    try:
        # HDF5 writes through Python's file object, so that a full disk raises an OSError with its reason.
        with files.replaced(path) as temporary, open(temporary, "w+b") as stream:
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
    except (OSError, RuntimeError) as error:
        raise DeftError(
            f"{path} cannot be written ({_reason(error)}): free some space, or choose another folder with data.root."
        ) from error


def _write_array(file: h5py.File, name: str, array: np.ndarray | Blocks, hasher: hashlib.blake2b) -> None:
    dataset = file.create_dataset(name, array.shape, array.dtype)
    if not isinstance(array, Blocks):
        dataset[:] = array
        hasher.update(_bytes(array))
        return
    done = 0
    with progress_bar(array.description, array.shape[0]) as advance:
        for rows in array.rows:
            dataset[done : done + len(rows)] = rows
            hasher.update(_bytes(rows))
            done += len(rows)
            advance(len(rows))


def _reason(error: BaseException) -> str:
    if isinstance(error, FileExistsError | NotADirectoryError):
        return f"{error.filename} is a file, not a folder"
    return (isinstance(error, OSError) and error.strerror) or first_line(error)


@contextmanager
def lock(path: Path, field: str = "data.root") -> Iterator[None]:
    """Hold the lock file beside `path`; the operating system releases it when the process dies.

    Waits while another process holds it. Raises `DeftError` when the folder cannot be written; `field` chooses it.
    """
    held = filelock.FileLock(path.with_name(path.name + ".lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            held.acquire(timeout=0)
        except filelock.Timeout:
            log.info("another process is making %s: waiting for it.", path)
            held.acquire()
    except (OSError, NotImplementedError) as error:
        raise DeftError(f"{path} cannot be written ({_reason(error)}): choose another folder with {field}.") from error
    try:
        yield
    finally:
        held.release()

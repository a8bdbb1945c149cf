"""What the readers of published files share: digests, shapes, the converted file, one sentence for damage."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from deft_lightning.common.errors import DeftError
from deft_lightning.data import cache
from deft_lightning.data.progress import progress_bar
from deft_lightning.data.zipped import ZippedArray

log = logging.getLogger(__name__)

AGAIN = "delete it and download it again"
_CHUNK = 1 << 22  # bytes read at a time for a digest


def check_md5(path: Path, md5: str | None) -> None:
    """Raise `DeftError` when a file has another digest than `md5`; None stands for a file whose digest is not known."""
    if md5 is None:
        return
    hasher = hashlib.md5()
    with (
        readable(path),
        open(path, "rb") as file,
        progress_bar(f"Checking {path.name}", path.stat().st_size / 1e6, unit="MB") as advance,
    ):
        while data := file.read(_CHUNK):
            hasher.update(data)
            advance(len(data) / 1e6)
    if (actual := hasher.hexdigest()) != md5:
        raise DeftError(f"{path} is not the published file (md5 {actual} instead of {md5}): {AGAIN}.")


@contextmanager
def readable(path: Path, data_set: str = "the published file") -> Iterator[None]:
    """Raise every failure to read `path`, a file of `data_set`, as a `DeftError`."""
    try:
        yield
    except DeftError:
        raise
    except PermissionError as error:
        raise DeftError(f"{path} cannot be read (permission denied): change its permissions.") from error
    except Exception as error:  # damage shows as OSError, BadZipFile, zlib.error, ValueError, KeyError, ...
        raise DeftError(f"{path} is damaged, incomplete or not {data_set}: {AGAIN}.") from error


def check_array(
    path: Path, data_set: str, name: str, array: ZippedArray | h5py.Dataset | np.ndarray, shape: tuple[int, ...]
) -> None:
    """Raise `DeftError` when an array of pixels is not uint8 or has another shape."""
    if array.dtype != np.uint8 or tuple(array.shape) != shape:
        raise DeftError(
            f"{path} is not {data_set} (its {name} are {array.dtype} {list(array.shape)} instead of uint8 "
            f"{list(shape)}): {AGAIN}."
        )


def load_converted(
    target: Path,
    files: Sequence[Path],
    build: Callable[[], dict[str, np.ndarray | cache.Blocks]],
    *,
    kind: str,
    version: int,
    missing: str,
    mapped: bool = False,
) -> cache.Prepared:
    """What `build` makes of the published `files`, kept in `target`; without files, what is in `target` already.

    Raises `MissingDataError`, with the sentence `missing`, when there is neither, and `DeftError` as `build` does.
    """
    if not files:
        return cache.load(target, kind=kind, version=version, missing=missing, mapped=mapped)
    origin = cache.origin_of(files)
    return cache.load_or_build(target, build, kind=kind, version=version, origin=origin, mapped=mapped)


def fetch_unless_good(title: str, load: Callable[[], object], fetch: Callable[[], object]) -> None:
    """Load a data set; where that fails, download its files and load it again. Raises `DeftError` as both do."""
    try:
        load()
    except DeftError as error:
        if not isinstance(error, cache.MissingDataError) or error.damaged:
            log.warning("%s is downloaded: %s", title, error)
        fetch()
        load()

"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replaced(path: Path, concurrent: bool = False) -> Iterator[Path]:
    """A temporary file beside `path` to write to, renamed to `path` when the block ends without an exception.

    Readers see the old file or the new one, never a part. The temporary name is always the same, so that what a killed
    process left behind is overwritten; with `concurrent` it has the process id in it, for files that several
    processes may write at once. Makes the folder. Raises `OSError` as the file system does, and then leaves no
    temporary file behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp" if concurrent else f".{path.name}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all; raises `OSError` as the file system does."""
    with replaced(path, concurrent=True) as temporary:
        temporary.write_text(text, encoding="utf-8")

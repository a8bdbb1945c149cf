"""Memory that is freed stays with the process: on Linux a training step is otherwise charged for it again and again.

The GNU C library gives large blocks back to the system as soon as they are free, and the system zeroes every page of
the next one. A step on a CPU allocates and frees all its activations, so that a third of its time goes there
(`python benchmarks/memory.py`, which finds the same peak of memory either way).
"""

from __future__ import annotations

import ctypes
import os
import platform

# Parameters of mallopt(3), and what they are set to.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
NEVER = -1
TOP_PAD = 256 * 2**20  # threads have heaps of 64 MiB each, which are given back unless more than this is kept
VARIABLES = (
    "GLIBC_TUNABLES",
    *(f"MALLOC_{name}_" for name in ("TRIM_THRESHOLD", "TOP_PAD", "MMAP_MAX", "MMAP_THRESHOLD")),
)


def keep_freed() -> None:
    """Keep what is freed from now on in this process; does nothing without glibc, or where one of `VARIABLES` is set.

    On other threads than the main one blocks of more than 64 MiB are given back all the same.
    """
    libc = _glibc()
    if libc is None or any(name in os.environ for name in VARIABLES):
        return
    for parameter, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, NEVER), (M_TOP_PAD, TOP_PAD)):
        libc.mallopt(parameter, value)


def give_back() -> None:
    """Return what is free to the system, as between two runs in one process; does nothing without glibc."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None

"""Memory that is freed stays with the process: on Linux a training step is otherwise charged for it again and again.

The GNU C library gives large blocks back to the system as soon as they are free, and the system zeroes every page of
the next one. A step on a CPU allocates and frees all its activations, so that a third of its time goes there
(`python benchmarks/memory.py`). A run needs no more memory for keeping them: its peak is the same.
"""

from __future__ import annotations

import ctypes
import os
import platform

# Parameters of mallopt(3), and what they are set to.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
NEVER = 2**31 - 1
TOP_PAD = 256 * 2**20  # threads have heaps of at most 64 MiB, which are given back unless more than this is kept


def keep_freed() -> None:
    """Keep what is freed from now on in this process; does nothing without glibc, or where the environment rules.

    That is the case where `GLIBC_TUNABLES` or a variable that begins with `MALLOC_` is set.
    """
    libc = _glibc()
    if libc is None or any(name == "GLIBC_TUNABLES" or name.startswith("MALLOC_") for name in os.environ):
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

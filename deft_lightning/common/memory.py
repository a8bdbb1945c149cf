"""Make glibc keep freed memory: otherwise every training step on a CPU pays page faults for its activations.

The GNU C library returns large blocks to the system as soon as they are free, and the system zeroes every page of
the next one. A step on a CPU allocates and frees all its activations, and a third of its time goes there
(`python benchmarks/memory.py`, which also shows that the peak of memory is the same).

Runs and measurements from the command line do so. A program that uses the package as a library decides for itself:

    from deft_lightning import retain_freed

    retain_freed()
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


def retain_freed() -> None:
    """Keep memory that is freed from now on; does nothing without glibc, or where one of `VARIABLES` is set.

    The setting is that of the whole process and stays: glibc has no way to undo all of it. `trim` returns what is free.
    On other threads than the main one, blocks of more than 64 MiB are returned to the system all the same.
    """
    libc = _glibc()
    if libc is None or any(name in os.environ for name in VARIABLES):
        return
    for parameter, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, NEVER), (M_TOP_PAD, TOP_PAD)):
        libc.mallopt(parameter, value)


def trim() -> None:
    """Return free memory to the system, for example between two runs in one process; does nothing without glibc."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None

"""Subnormal numbers flushed to zero: Intel's processors compute with them some hundred times more slowly.

As a model learns, logits of the background fall below -87, where the gradients of their sigmoid are subnormal, and a
training step takes twice as long (`python benchmarks/training_throughput.py`). Whether a processor flushes them is a
flag of each thread, which a thread inherits from the one that started it. `torch.set_flush_denormal` sets it in the
calling thread alone, so threads of OpenMP that an earlier computation has started would keep the old setting.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@contextmanager
def flushed() -> Iterator[None]:
    """Flush subnormal numbers to zero inside the block, then restore the setting of the calling thread."""
    previous = is_flushing()
    flush(True)
    try:
        yield
    finally:
        flush(previous)


def flush(on: bool) -> None:
    """Switch flushing on or off in the calling thread and in its threads of OpenMP.

    Threads of another OpenMP than GNU's, which PyTorch uses on Linux, keep their setting if they run already.
    """
    torch.set_flush_denormal(on)  # threads that are started from now on inherit it
    if torch.get_num_threads() == 1:
        return
    # In each thread of the team; ctypes takes Python's lock for every call.
    in_each_thread = _CALLBACK(lambda _: torch.set_flush_denormal(on) and None)
    for library in _gnu_openmp():
        library.GOMP_parallel(in_each_thread, None, ctypes.c_uint(torch.get_num_threads()), ctypes.c_uint(0))


def is_flushing() -> bool:
    """Whether the calling thread flushes subnormal numbers to zero."""
    smallest = torch.finfo(torch.float32).tiny
    return float(torch.tensor([smallest]) / 4) == 0.0


def _gnu_openmp() -> list[ctypes.CDLL]:
    """The copies of GNU's OpenMP that this process has loaded: PyTorch may bring one, and compiled code another."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        return []
    libraries = []
    for path in openmp_paths(os.fsdecode(maps.read_bytes())):
        with suppress(OSError):  # such as a file that was replaced since it was loaded
            libraries.append(ctypes.CDLL(path))
    return libraries


def openmp_paths(maps: str) -> list[str]:
    """The files of GNU's OpenMP in the text of /proc/<id>/maps, whose lines end with a path that may have spaces."""
    return sorted(set(re.findall(r"(?m)^[^/\n]*(/.*libgomp[^/\n]*\.so[^/\n]*)$", maps)))

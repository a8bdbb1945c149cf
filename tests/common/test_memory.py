"""Freed memory stays with the process after `retain_freed`, and returns to the system after `trim`."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")

PAGES = 64 * 2**20 // os.sysconf("SC_PAGE_SIZE")
# Run in a subprocess, since the setting is for a whole process. Prints the page faults of the third time that 64 MiB
# are allocated and written in blocks of 8 MiB, on the main thread and on another, and the pages that `trim` returns.
SCRIPT = """
import ctypes, resource, threading
from deft_lightning.common import memory

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p

def fill():
    blocks = [ctypes.c_void_p(libc.malloc(8 * 2**20)) for _ in range(8)]
    for block in blocks:
        ctypes.memset(block, 1, 8 * 2**20)
    for block in blocks:
        libc.free(block)

def faults():
    fill()
    fill()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    fill()
    counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

def resident():
    return int(open("/proc/self/statm").read().split()[1])

counts = []
{keep}
faults()
thread = threading.Thread(target=faults)
thread.start()
thread.join()
before = resident()
memory.trim()
print(*counts, before - resident())
"""


def _measure(keep: bool, **environment: str) -> list[int]:
    script = SCRIPT.replace("{keep}", "memory.retain_freed()" if keep else "")
    unset = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", script], env=unset | environment, capture_output=True, text=True, check=True
    )
    return [int(word) for word in done.stdout.split()]


def test_freed_memory_is_kept_until_it_is_trimmed() -> None:
    main, other, fall = _measure(keep=True)
    assert max(main, other) < 0.05 * PAGES
    assert fall > 0.9 * PAGES
    assert max(_measure(keep=False)[:2]) > 0.9 * PAGES  # the page faults that this avoids


def test_settings_in_the_environment_take_precedence() -> None:
    assert max(_measure(keep=True, MALLOC_TRIM_THRESHOLD_="131072")[:2]) > 0.9 * PAGES

"""Flushing subnormal numbers, in the calling thread and in OpenMP's."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from deft_lightning.common import subnormals

pytestmark = pytest.mark.skipif(not torch.set_flush_denormal(False), reason="this processor has no such flag")

SCRIPT = """
import torch
from deft_lightning.common import subnormals
torch.set_num_threads(2)
small = torch.full((4_000_000,), 1e-39)
def left():  # numbers that are not flushed, where each thread computes half of them
    return int((small * 0.5 != 0).sum())
counts = [left()]  # OpenMP's threads start here, before the flag is set
with subnormals.flushed():
    counts.append(left())
counts.append(left())
print(*counts, subnormals.is_flushing())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have another OpenMP")
def test_threads_that_run_already_flush_too_and_stop_afterwards() -> None:
    answer = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["4000000", "0", "4000000", "False"]


def test_the_setting_is_left_as_it_was() -> None:
    try:
        torch.set_flush_denormal(True)
        with subnormals.flushed():
            assert subnormals.is_flushing()
        assert subnormals.is_flushing()
        torch.set_flush_denormal(False)
        with pytest.raises(ZeroDivisionError), subnormals.flushed():
            raise ZeroDivisionError
        assert not subnormals.is_flushing()
    finally:
        torch.set_flush_denormal(False)


def test_libraries_are_found_in_folders_with_spaces() -> None:
    """A virtual environment may lie in "My Project"; of a mapping without a file there is no path."""
    maps = """\
7f01-7f02 r-xp 00000000 08:01 1234   /home/ann/My Project/.venv/lib/torch/lib/libgomp.so.1
7f02-7f03 rw-p 00001000 08:01 1234   /home/ann/My Project/.venv/lib/torch/lib/libgomp.so.1
7f03-7f04 r-xp 00000000 08:01 5678   /usr/lib/x86_64-linux-gnu/libgomp.so.1.0.0
7f04-7f05 r-xp 00000000 08:01 9012   /opt/libgomp docs/libc.so.6
7f05-7f06 rw-p 00000000 00:00 0      [heap]
"""
    assert subnormals.openmp_paths(maps) == [
        "/home/ann/My Project/.venv/lib/torch/lib/libgomp.so.1",
        "/usr/lib/x86_64-linux-gnu/libgomp.so.1.0.0",
    ]

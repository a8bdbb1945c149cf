"""Commands and rooms that import no torch, which would take seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

NO_TORCH = """
import os, sys, traceback

class NoTorch:
    def find_spec(name, path=None, target=None):
        if name == "torch":
            traceback.print_stack()
            os._exit(1)

sys.meta_path.insert(0, NoTorch)
"""
COMMANDS = tuple(
    f"deft_lightning{part}" for part in ("", ".dashboard", ".encode", ".evaluate", ".explore", ".export", ".report")
)


def _help(module: str) -> str:
    return f"""
import runpy
sys.argv = [{module!r}, "--help"]
runpy.run_module({module!r}, run_name="__main__")
"""


@pytest.mark.slow  # a process each
@pytest.mark.parametrize(
    "code",
    [
        "import deft_lightning.launch.cli",
        "import deft_lightning.report.build",
        *map(_help, COMMANDS),
    ],
    ids=["cli", "report", *(f"{command} --help" for command in COMMANDS)],
)
def test_torch_is_not_imported(code: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", NO_TORCH + code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

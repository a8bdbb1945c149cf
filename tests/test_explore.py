"""The command that opens the page."""

from __future__ import annotations

import importlib.util
import logging
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deft_lightning import explore
from deft_lightning.training import run
from tests.conftest import MakeOnce
from tests.helpers import BARE, compose_run


@pytest.fixture(autouse=True)
def _level() -> Iterator[None]:
    """The command silences the package's log, which is a matter of its own process."""
    log = logging.getLogger("deft_lightning")
    level = log.level
    yield
    log.setLevel(level)


def test_no_run_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explore.main([str(tmp_path), "--no-browser"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: there is no run with a checkpoint in {tmp_path}: give")


def test_a_missing_library_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "dash" else find(name, *more))
    assert explore.main([str(tmp_path)]) == 1
    assert capsys.readouterr().err == "error: dash is not installed: pip install 'deft-lightning[explore]'.\n"


@pytest.mark.slow  # trains a run, and a process
def test_the_command_serves_until_ctrl_c_and_ends_quietly(make_once: MakeOnce) -> None:
    folder = make_once("to_load", lambda folder: run.train(*compose_run(folder, *BARE)))
    root = Path(__file__).parents[1]
    command = [sys.executable, "-m", "deft_lightning.explore", str(folder), "--no-browser"]
    # Jobs in the background of a shell ignore SIGINT, and would hand that down.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, before)
    try:
        assert process.stdout is not None
        address = re.match(r"(http://127\.0\.0\.1:\d+/) ", process.stdout.readline())
        assert address
        with urllib.request.urlopen(address[1], timeout=60) as answer:
            assert b"deft_lightning explore" in answer.read()
        process.send_signal(signal.SIGINT)
        rest: Any = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    assert [text.strip() for text in rest] == ["", ""]

"""Fixtures that several test files share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import filelock
import pytest

from deft_lightning.data.dsprites.dataset import rendered
from tests.helpers import TinySprites

MakeOnce = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def make_once(tmp_path_factory: pytest.TempPathFactory) -> MakeOnce:
    """A function that makes a folder once for the whole session, also where pytest-xdist runs several processes.

    `make_once(name, make)` calls `make(folder)` unless that was done before, and returns the folder.
    """
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # the folder of all processes

    def make_once(name: str, make: Callable[[Path], object]) -> Path:
        folder, done = root / "once" / name, root / "once" / f"{name}.done"
        folder.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(f"{folder}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                make(folder)
                done.touch()
        return folder

    return make_once


@pytest.fixture(scope="session")
def dsprites_root(make_once: MakeOnce) -> Path:
    """A cache folder that holds all of dSprites, rendered once for the whole test session."""
    return make_once("dsprites", rendered)


@pytest.fixture
def tiny_dataset() -> TinySprites:
    """96 binary images of 64 x 64 with four factors, made in no time."""
    return TinySprites()

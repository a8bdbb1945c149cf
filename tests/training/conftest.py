"""Runs that several test files look at, each trained once; a test that changes a run works on a copy."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from deft_lightning.common.errors import Interrupted
from deft_lightning.training import run
from tests.conftest import MakeOnce
from tests.helpers import PLAIN, compose_run, send_signal

Copy = Callable[[Path], Path]
FEW_COLUMNS = "callbacks.traversals.columns=3"  # animations of more take most of the time of a short run


@pytest.fixture(scope="session")
def finished(make_once: MakeOnce) -> Path:
    """A finished run with all callbacks."""
    return make_once("finished", lambda folder: run.train(*compose_run(folder, FEW_COLUMNS)))


@pytest.fixture(scope="session")
def uninterrupted(make_once: MakeOnce) -> Path:
    """A finished run without pictures."""
    return make_once("uninterrupted", lambda folder: run.train(*compose_run(folder, *PLAIN)))


@pytest.fixture(scope="session")
def stopped(make_once: MakeOnce) -> Path:
    """The same run, stopped by SIGTERM after 18 of 48 steps: in the middle of stage 2 and of an epoch."""

    def train(folder: Path) -> None:
        with suppress(Interrupted):
            run.train(*compose_run(folder, *PLAIN, *send_signal(17, signal.SIGTERM)))

    return make_once("stopped", train)


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    """Copies a run folder for this test alone."""
    return lambda folder: Path(shutil.copytree(folder, tmp_path / "run"))

"""Runs to look at."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from deft_lightning.training import run
from tests.conftest import MakeOnce
from tests.helpers import BARE, compose_run


@pytest.fixture(scope="session")
def folder(make_once: MakeOnce) -> Path:
    """Two finished runs on colour images of TinySprites, one and two, which have other weights and the same data."""

    def make(folder: Path) -> None:
        run.train(*compose_run(folder / "one", *BARE))
        shutil.copytree(folder / "one", folder / "two")
        shutil.copy(folder / "two/checkpoints/stage_2.ckpt", folder / "two/checkpoints/last.ckpt")

    return make_once("to_explore", make)

"""What several test files share."""

from __future__ import annotations

from pathlib import Path

import pytest

from deft_lightning.data.dsprites.dataset import rendered
from tests.helpers import TinySprites


@pytest.fixture(scope="session")
def dsprites_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder that holds all of dSprites, rendered once for the whole test session."""
    root = tmp_path_factory.mktemp("cache")
    rendered(root)
    return root


@pytest.fixture
def tiny_dataset() -> TinySprites:
    """96 binary images of 64 x 64 with four factors, made in no time."""
    return TinySprites()

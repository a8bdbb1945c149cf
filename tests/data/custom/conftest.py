"""The formats of files of images."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(params=[".npz", ".h5", ".hdf5"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The path of a file in each of the formats."""
    return tmp_path / f"mine{request.param}"

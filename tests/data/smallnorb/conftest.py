"""Fixtures for SmallNORB files that the tests write."""

from __future__ import annotations

from pathlib import Path

import pytest

from deft_lightning.data.smallnorb import published
from tests.data.smallnorb.files import write


@pytest.fixture(autouse=True)
def published_digests(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The published digests, which are not compared: no file that is written here can have them."""
    digests = published.SHA256
    monkeypatch.setattr(published, "SHA256", {})
    return digests


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data folder with the files."""
    write(tmp_path / "smallnorb")
    return tmp_path

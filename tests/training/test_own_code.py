"""Code from outside the package that a run uses: which modules it is in."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from deft_lightning.training import own_code

PARTS = {
    "data": {"_target_": "my_images.Images", "transform": [{"_target_": "my_transforms.Blur"}]},
    "networks": {"_target_": "deft_lightning.Burgess"},
    "callbacks": {"mine": {"_target_": "my_callback.Mine"}, "none": None},
    "metrics": {"at_end": ["mig", {"name": "mine", "function": "my_score.mine"}]},
}


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("my_images", "my_transforms", "my_callback", "my_score"):
        (tmp_path / f"{name}.py").write_text("")
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def test_modules_are_found_to_any_depth(modules: Path) -> None:
    found = own_code.sources(OmegaConf.create(PARTS))
    assert set(found) == {"my_images", "my_transforms", "my_callback", "my_score"}
    assert found["my_transforms"]["file"] == str(modules / "my_transforms.py")


def test_a_module_that_cannot_be_imported_is_left_to_what_builds_it(modules: Path) -> None:
    (modules / "my_images.py").write_text("import numpy as np\nnp.no_such_thing")
    assert "my_images" not in own_code.sources(OmegaConf.create(PARTS))

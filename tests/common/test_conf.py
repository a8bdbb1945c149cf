"""The names of the choices in conf/, by which results.json knows them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.utils import get_class

from deft_lightning.common import conf


@pytest.mark.parametrize("group", ["objective", "data", "schedule", "networks"])
def test_every_file_is_the_one_name_of_the_class_it_builds(group: str) -> None:
    names = conf.choice_names(group)
    files = {path.stem for path in (conf.config_folder() / group).glob("[!_]*.yaml")}
    assert sorted(names.values()) == sorted(files - {"torch"})  # builds a class of the user's
    assert len({get_class(target) for target in names}) == len(names)  # they exist, and no two are the same


def test_the_two_dip_vaes_have_different_names() -> None:
    names = conf.choice_names("objective")
    assert (names["deft_lightning.DIPVAE1"], names["deft_lightning.DIPVAE2"]) == ("dip_vae_i", "dip_vae_ii")


def test_a_class_that_two_files_build_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = tmp_path / "networks_of_a_test"  # results are cached by the name of the group
    group.mkdir()
    for name, content in {
        "small": "_target_: package.Net",
        "large": "# @package _global_\nnetworks_of_a_test:\n  _target_: package.Net\nlr: 1",
        "other": "_target_: package.Other",
        "settings": "fraction: 1",
        "_base": "_target_: package.Base",
    }.items():
        (group / f"{name}.yaml").write_text(content)
    monkeypatch.setattr(conf, "config_folder", lambda: tmp_path)
    assert conf.choice_names("networks_of_a_test") == {"package.Other": "other"}

from __future__ import annotations

import yaml

import deft_lightning.data
from deft_lightning.common.conf import choice_names, config_folder
from deft_lightning.data import registry


def test_the_names_are_those_of_the_classes_and_of_conf():
    assert {name: dataset.name for name, dataset in registry.DATASETS.items()} == {n: n for n in registry.DATASETS}
    targets = {f"deft_lightning.data.{dataset.__name__}": name for name, dataset in registry.DATASETS.items()}
    assert choice_names("data") == targets
    for name, dataset in registry.DATASETS.items():
        assert getattr(deft_lightning.data, dataset.__name__) is dataset, name


def test_the_one_file_without_a_class_is_for_a_class_of_the_users():
    content = yaml.safe_load((config_folder() / "data" / "torch.yaml").read_text())
    assert content == {"_target_": None}


def test_every_download_is_a_function():
    assert all(callable(prepare) for prepare in registry.DOWNLOADS.values())

from __future__ import annotations

import deft_lightning.data
from deft_lightning.common.conf import choice_names
from deft_lightning.data import registry


def test_the_names_are_those_of_the_classes_and_of_conf():
    assert {name: dataset.name for name, dataset in registry.DATASETS.items()} == {n: n for n in registry.DATASETS}
    targets = {f"deft_lightning.data.{dataset.__name__}": name for name, dataset in registry.DATASETS.items()}
    assert choice_names("data") == targets
    for name, dataset in registry.DATASETS.items():
        assert getattr(deft_lightning.data, dataset.__name__) is dataset, name


def test_every_download_is_a_function():
    assert all(callable(prepare) for prepare in registry.DOWNLOADS.values())

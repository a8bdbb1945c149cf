"""Data sets of known factors, as whole batches of images."""

from typing import Any

from deft_lightning.data.base import FactorDataset
from deft_lightning.data.batches import Batch, BatchLoader
from deft_lightning.data.datamodule import FactorDataModule
from deft_lightning.data.factors import FactorSpace
from deft_lightning.data.registry import CLASSES, find, load

__all__ = ["Batch", "BatchLoader", "FactorDataModule", "FactorDataset", "FactorSpace", "load"]


def __getattr__(name: str) -> Any:
    """Import a data set's class when it is first asked for."""
    if name not in CLASSES:
        raise AttributeError(f"module 'deft_lightning.data' has no attribute {name!r}")
    return find(CLASSES[name])

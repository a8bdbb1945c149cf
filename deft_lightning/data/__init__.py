"""Data sets of known factors, as whole batches of images."""

from deft_lightning.data.base import FactorDataset
from deft_lightning.data.batches import Batch, BatchLoader
from deft_lightning.data.datamodule import FactorDataModule
from deft_lightning.data.factors import FactorSpace
from deft_lightning.data.registry import load

__all__ = ["Batch", "BatchLoader", "FactorDataModule", "FactorDataset", "FactorSpace", "load"]

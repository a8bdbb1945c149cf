"""Data sets with known, partly known or unknown factors, drawn as whole batches of images."""

from deft_lightning.data.base import FactorDataset
from deft_lightning.data.batches import Batch, BatchLoader
from deft_lightning.data.custom.dataset import CustomImages
from deft_lightning.data.datamodule import FactorDataModule
from deft_lightning.data.dsprites.dataset import ColorDSprites, DSprites, NoisyDSprites
from deft_lightning.data.dsprites.scream import ScreamDSprites
from deft_lightning.data.factors import FactorSpace
from deft_lightning.data.registry import load
from deft_lightning.data.smallnorb.dataset import SmallNORB

__all__ = [
    "Batch",
    "BatchLoader",
    "ColorDSprites",
    "CustomImages",
    "DSprites",
    "FactorDataModule",
    "FactorDataset",
    "FactorSpace",
    "NoisyDSprites",
    "ScreamDSprites",
    "SmallNORB",
    "load",
]

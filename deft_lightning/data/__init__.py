"""Data sets with known, partly known or unknown factors, drawn as whole batches of images."""

from deft_lightning.data.base import FactorDataset
from deft_lightning.data.batches import Batch, BatchLoader
from deft_lightning.data.cars3d import Cars3D
from deft_lightning.data.custom.dataset import CustomImages
from deft_lightning.data.datamodule import FactorDataModule
from deft_lightning.data.dsprites.dataset import ColorDSprites, DSprites, NoisyDSprites
from deft_lightning.data.dsprites.scream import ScreamDSprites
from deft_lightning.data.factors import FactorSpace
from deft_lightning.data.mpi3d import MPI3D
from deft_lightning.data.registry import load
from deft_lightning.data.shapes3d import Shapes3D
from deft_lightning.data.smallnorb.dataset import SmallNORB

__all__ = [
    "MPI3D",
    "Batch",
    "BatchLoader",
    "Cars3D",
    "ColorDSprites",
    "CustomImages",
    "DSprites",
    "FactorDataModule",
    "FactorDataset",
    "FactorSpace",
    "NoisyDSprites",
    "ScreamDSprites",
    "Shapes3D",
    "SmallNORB",
    "load",
]

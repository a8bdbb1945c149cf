"""DEFT: Distilling Entangled Factors, as a PyTorch Lightning experiment framework."""

from deft_lightning.data.datamodule import FactorDataModule
from deft_lightning.errors import DeftError
from deft_lightning.groups import Groups
from deft_lightning.module import DEFT
from deft_lightning.objectives import BetaVAE
from deft_lightning.schedule import Piecewise, constant

__version__ = "0.1.0"
__all__ = ["DEFT", "BetaVAE", "DeftError", "FactorDataModule", "Groups", "Piecewise", "constant"]

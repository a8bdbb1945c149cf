"""DEFT: Distilling Entangled Factors, as a PyTorch Lightning experiment framework."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deft_lightning.data.datamodule import FactorDataModule
    from deft_lightning.errors import DeftError
    from deft_lightning.groups import Groups
    from deft_lightning.module import DEFT
    from deft_lightning.objectives import DEFTTC, DIPVAE1, DIPVAE2, AnnealedVAE, BetaTCVAE, BetaVAE, FactorVAE
    from deft_lightning.schedule import Capacity, Constant, Piecewise

__version__ = "0.1.0"
__all__ = [
    "DEFT",
    "DEFTTC",
    "DIPVAE1",
    "DIPVAE2",
    "AnnealedVAE",
    "BetaTCVAE",
    "BetaVAE",
    "Capacity",
    "Constant",
    "DeftError",
    "FactorDataModule",
    "FactorVAE",
    "Groups",
    "Piecewise",
]

_HOMES = {
    "DEFT": "module",
    "DEFTTC": "objectives",
    "DIPVAE1": "objectives",
    "DIPVAE2": "objectives",
    "AnnealedVAE": "objectives",
    "BetaTCVAE": "objectives",
    "BetaVAE": "objectives",
    "Capacity": "schedule",
    "Constant": "schedule",
    "DeftError": "errors",
    "FactorDataModule": "data.datamodule",
    "FactorVAE": "objectives",
    "Groups": "groups",
    "Piecewise": "schedule",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: --help and --cfg need no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'deft_lightning' has no attribute {name!r}")
    return getattr(import_module(f"deft_lightning.{_HOMES[name]}"), name)

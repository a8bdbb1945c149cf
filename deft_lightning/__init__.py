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
    from deft_lightning.schedule import Piecewise, constant

__version__ = "0.1.0"
__all__ = [
    "DEFT",
    "DEFTTC",
    "DIPVAE1",
    "DIPVAE2",
    "AnnealedVAE",
    "BetaTCVAE",
    "BetaVAE",
    "DeftError",
    "FactorDataModule",
    "FactorVAE",
    "Groups",
    "Piecewise",
    "constant",
]

_HOMES = {
    "DEFT": "module",
    **dict.fromkeys(("AnnealedVAE", "BetaTCVAE", "BetaVAE", "DEFTTC", "DIPVAE1", "DIPVAE2", "FactorVAE"), "objectives"),
    "DeftError": "errors",
    "FactorDataModule": "data.datamodule",
    "Groups": "groups",
    "Piecewise": "schedule",
    "constant": "schedule",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: --help and --cfg need no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'deft_lightning' has no attribute {name!r}")
    return getattr(import_module(f"deft_lightning.{_HOMES[name]}"), name)

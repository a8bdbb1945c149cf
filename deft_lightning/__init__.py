"""DEFT: Distilling Entangled Factors, as a PyTorch Lightning experiment framework."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
_HOMES = {
    "DEFT": "module",
    "DEFTTC": "objectives",
    "DIPVAE1": "objectives",
    "DIPVAE2": "objectives",
    "AnnealedVAE": "objectives",
    "BetaTCVAE": "objectives",
    "BetaVAE": "objectives",
    "Adaptive": "schedule_adaptive",
    "Capacity": "schedule",
    "Constant": "schedule",
    "DeftError": "errors",
    "FactorDataModule": "data.datamodule",
    "FactorVAE": "objectives",
    "Groups": "groups",
    "Piecewise": "schedule",
    "anneal": "schedule_anneal",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605  # one list


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: --help and --cfg need no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'deft_lightning' has no attribute {name!r}")
    return getattr(import_module(f"deft_lightning.{_HOMES[name]}"), name)

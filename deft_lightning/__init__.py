"""DEFT: Distilling Entangled Factors, as a PyTorch Lightning experiment framework."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "DEFT": "model.module",
    "DEFTTC": "model.objectives",
    "DIPVAE1": "model.objectives",
    "DIPVAE2": "model.objectives",
    "Adam": "model.optimizers",
    "AdamW": "model.optimizers",
    "Anneal": "model.schedules.anneal",
    "AnnealedVAE": "model.objectives",
    "Bernoulli": "model.likelihoods",
    "BetaTCVAE": "model.objectives",
    "BetaVAE": "model.objectives",
    "Burgess": "model.networks",
    "Adaptive": "model.schedules.adaptive",
    "Capacity": "model.schedules.base",
    "Constant": "model.schedules.base",
    "ContinuousBernoulli": "model.likelihoods",
    "DeftError": "common.errors",
    "Distil": "model.schedules.distil",
    "FactorDataModule": "data.datamodule",
    "FactorVAE": "model.objectives",
    "Gaussian": "model.likelihoods",
    "Groups": "model.groups",
    "Likelihood": "model.likelihoods",
    "LearntGaussian": "model.likelihoods",
    "Locatello": "model.networks",
    "Loss": "model.objectives",
    "Networks": "model.networks",
    "Objective": "model.objectives",
    "OptimizerFactory": "model.optimizers",
    "Piecewise": "model.schedules.base",
    "Posterior": "model.networks",
    "Residual": "model.networks",
    "Schedule": "model.schedules.base",
    "Timeline": "model.schedules.base",
    "load_model": "training.load",
    "load_run": "training.load",
    "retain_freed": "common.memory",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605  # one list


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: --help and --cfg need no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'deft_lightning' has no attribute {name!r}")
    return getattr(import_module(f"deft_lightning.{_HOMES[name]}"), name)

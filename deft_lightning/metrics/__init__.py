"""Disentanglement scores: pure functions of codes [N, D] and factors [N, K], numpy or torch, from any model."""

from deft_lightning.metrics.beta_vae import BetaVAEScore, beta_vae_of_batches, beta_vae_score
from deft_lightning.metrics.dci import DCI, dci
from deft_lightning.metrics.explicitness import Explicitness, explicitness
from deft_lightning.metrics.factor_vae import FactorVAEScore, factor_vae_of_batches, factor_vae_score
from deft_lightning.metrics.fixed_factor import batches_of_rows, draw_batches, draw_pairs, pairs_of_rows
from deft_lightning.metrics.irs import IRS, irs
from deft_lightning.metrics.modularity import Modularity, modularity
from deft_lightning.metrics.mutual_information import (
    MIG,
    factor_entropy,
    max_nmi,
    mig,
    mutual_information,
    nmi,
)
from deft_lightning.metrics.sap import SAP, sap

__all__ = [
    "DCI",
    "IRS",
    "MIG",
    "SAP",
    "BetaVAEScore",
    "Explicitness",
    "FactorVAEScore",
    "Modularity",
    "batches_of_rows",
    "beta_vae_of_batches",
    "beta_vae_score",
    "dci",
    "draw_batches",
    "draw_pairs",
    "explicitness",
    "factor_entropy",
    "factor_vae_of_batches",
    "factor_vae_score",
    "irs",
    "max_nmi",
    "mig",
    "modularity",
    "mutual_information",
    "nmi",
    "pairs_of_rows",
    "sap",
]

"""Disentanglement scores: pure functions of codes [N, D] and factors [N, K], as numpy arrays or torch tensors.

They work on the codes of any model. N is the number of points, D of latents, K of factors.
"""

from deft_lightning.metrics.active_units import ActiveUnits, active_units
from deft_lightning.metrics.beta_vae import BetaVAEScore, beta_vae_of_batches, beta_vae_score
from deft_lightning.metrics.classes import (
    ActiveUnitsMetric,
    DCIMetric,
    ExplicitnessMetric,
    InfoMECMetric,
    IRSMetric,
    MIGMetric,
    ModularityMetric,
    SAPMetric,
    TableMetric,
    TotalCorrelationMetric,
)
from deft_lightning.metrics.dci import DCI, dci
from deft_lightning.metrics.explicitness import Explicitness, explicitness
from deft_lightning.metrics.factor_vae import FactorVAEScore, factor_vae_of_batches, factor_vae_score
from deft_lightning.metrics.fixed_factor import batches_of_rows, draw_batches, draw_pairs, pairs_of_rows
from deft_lightning.metrics.infomec import InfoMEC, infomec
from deft_lightning.metrics.intervals import Interval, bootstrap
from deft_lightning.metrics.irs import IRS, irs
from deft_lightning.metrics.modularity import Modularity, modularity
from deft_lightning.metrics.mutual_information import MIG, factor_entropy, max_nmi, mig, mutual_information, nmi
from deft_lightning.metrics.sap import SAP, sap
from deft_lightning.metrics.total_correlation import TotalCorrelation, covariance, total_correlation
from deft_lightning.metrics.udr import UDR, udr

__all__ = [
    "DCI",
    "IRS",
    "MIG",
    "SAP",
    "UDR",
    "ActiveUnits",
    "ActiveUnitsMetric",
    "BetaVAEScore",
    "DCIMetric",
    "Explicitness",
    "ExplicitnessMetric",
    "FactorVAEScore",
    "IRSMetric",
    "InfoMEC",
    "InfoMECMetric",
    "Interval",
    "MIGMetric",
    "Modularity",
    "ModularityMetric",
    "SAPMetric",
    "TableMetric",
    "TotalCorrelation",
    "TotalCorrelationMetric",
    "active_units",
    "batches_of_rows",
    "beta_vae_of_batches",
    "beta_vae_score",
    "bootstrap",
    "covariance",
    "dci",
    "draw_batches",
    "draw_pairs",
    "explicitness",
    "factor_entropy",
    "factor_vae_of_batches",
    "factor_vae_score",
    "infomec",
    "irs",
    "max_nmi",
    "mig",
    "modularity",
    "mutual_information",
    "nmi",
    "pairs_of_rows",
    "sap",
    "total_correlation",
    "udr",
]

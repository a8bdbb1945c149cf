"""Disentanglement scores: pure functions of codes [N, D] and factors [N, K], numpy or torch, from any model."""

from deft_lightning.metrics.active_units import ActiveUnits, active_units
from deft_lightning.metrics.classes import (
    ActiveUnitsMetric,
    InfoMECMetric,
    MIGMetric,
    TableMetric,
    TotalCorrelationMetric,
)
from deft_lightning.metrics.infomec import InfoMEC, infomec
from deft_lightning.metrics.intervals import Interval, bootstrap
from deft_lightning.metrics.mutual_information import (
    MIG,
    factor_entropy,
    max_nmi,
    mig,
    mutual_information,
    nmi,
)
from deft_lightning.metrics.total_correlation import TotalCorrelation, covariance, total_correlation
from deft_lightning.metrics.udr import UDR, udr

__all__ = [
    "MIG",
    "UDR",
    "ActiveUnits",
    "ActiveUnitsMetric",
    "InfoMEC",
    "InfoMECMetric",
    "Interval",
    "MIGMetric",
    "TableMetric",
    "TotalCorrelation",
    "TotalCorrelationMetric",
    "active_units",
    "bootstrap",
    "covariance",
    "factor_entropy",
    "infomec",
    "max_nmi",
    "mig",
    "mutual_information",
    "nmi",
    "total_correlation",
    "udr",
]

"""Disentanglement scores: pure functions of codes [N, D] and factors [N, K], numpy or torch, from any model."""

from deft_lightning.metrics.mutual_information import (
    MIG,
    factor_entropy,
    max_nmi,
    mig,
    mutual_information,
    nmi,
)

__all__ = ["MIG", "factor_entropy", "max_nmi", "mig", "mutual_information", "nmi"]

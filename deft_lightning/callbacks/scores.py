"""Scores at the end of every stage: MIG, reconstruction error and KL, on one fixed sample."""

from __future__ import annotations

import logging
from typing import Any

import pytorch_lightning as pl

from deft_lightning import results
from deft_lightning.callbacks._common import AtStageEnd, log_numbers
from deft_lightning.codes import codes_now, data_of, reconstruction_error
from deft_lightning.data.datamodule import FactorDataModule
from deft_lightning.metrics import factor_entropy, max_nmi, nmi
from deft_lightning.metrics.mutual_information import gap
from deft_lightning.module import DEFT

log = logging.getLogger(__name__)


class Scores(AtStageEnd):
    """Scores the model at every stage end (section 3.2) and keeps them in results.json.

    `num_points` images, `bins` bins a latent. Without labels only reconstruction and KL are scored.
    """

    def __init__(self, num_points: int = 10_000, bins: int = 20) -> None:
        self.num_points, self.bins = num_points, bins

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say once for the whole fit what is not scored."""
        if trainer.is_global_zero and not data_of(trainer).dataset.factor_names:
            log.info("No labels: the scores that need them are skipped.")

    def at_stage_end(self, trainer: pl.Trainer, module: DEFT, data: FactorDataModule, stage: int) -> None:
        """Score on the fixed sample; log the scores and keep them in results.json."""
        table = codes_now(trainer, self.num_points)
        numbers: dict[str, float] = {
            "reconstruction": reconstruction_error(module, data, table),
            "kl": float(table.kl.sum()),
        }
        record: dict[str, Any] = {
            "step": trainer.global_step,
            "pressure": module.schedule.at(trainer.global_step - 1, module.steps_per_epoch).pressure,
            "kl_per_latent": table.kl.tolist(),
        }
        names = data.dataset.factor_names
        if table.factors is not None:
            matrix = nmi(table.codes, table.factors, self.bins)  # [D, K]
            numbers["mig"] = gap(matrix, factor_entropy(table.factors)).score
            record |= {
                "nmi": matrix.tolist(),
                "max1_nmi": dict(zip(names, max_nmi(matrix, 1).tolist(), strict=True)),
                "max2_nmi": dict(zip(names, max_nmi(matrix, 2).tolist(), strict=True)),
            }
        log_numbers(trainer, {f"score/{key}": value for key, value in numbers.items()})
        results.update(trainer.default_root_dir, stages={f"stage_{stage + 1}": record | {"scores": numbers}})

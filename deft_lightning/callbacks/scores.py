"""Scores at the end of every stage: MIG, reconstruction error and KL, on one fixed sample."""

from __future__ import annotations

import logging
from typing import Any, cast

import pytorch_lightning as pl

from deft_lightning import results
from deft_lightning.callbacks._common import finished_stage, log_numbers
from deft_lightning.codes import codes_now, reconstruction_error
from deft_lightning.data.datamodule import FactorDataModule
from deft_lightning.metrics import max_nmi, mig, nmi
from deft_lightning.module import DEFT

log = logging.getLogger(__name__)


class Scores(pl.Callback):
    """Scores the model at every stage end (section 3.2) and keeps them in results.json.

    `num_points` images, `bins` bins a latent. Without labels only reconstruction and KL are scored.
    """

    def __init__(self, num_points: int = 10_000, bins: int = 20) -> None:
        self.num_points, self.bins = num_points, bins

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Score where this step ended a stage."""
        index = finished_stage(pl_module)
        if index is None or not trainer.is_global_zero:
            return
        module, data = cast(DEFT, pl_module), cast(FactorDataModule, trainer.datamodule)  # type: ignore[attr-defined]
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
        if table.factors is None:
            log.info("No labels: the scores that need them are skipped.")
        else:
            matrix = nmi(table.codes, table.factors, self.bins)  # [D, K]
            numbers["mig"] = mig(table.codes, table.factors, self.bins).score
            record |= {
                "nmi": matrix.tolist(),
                "max1_nmi": dict(zip(names, max_nmi(matrix, 1).tolist(), strict=True)),
                "max2_nmi": dict(zip(names, max_nmi(matrix, 2).tolist(), strict=True)),
            }
        log_numbers(trainer, {f"score/{key}": value for key, value in numbers.items()})
        results.update(trainer.default_root_dir, stages={f"stage_{index + 1}": record | {"scores": numbers}})

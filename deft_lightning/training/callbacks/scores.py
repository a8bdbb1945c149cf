"""Scores at the end of every stage, on one fixed sample, kept in results.json."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl

from deft_lightning.common import results
from deft_lightning.data.datamodule import FactorDataModule
from deft_lightning.evaluation import scores as scoring
from deft_lightning.evaluation.codes import codes_now, data_of, reconstruction_errors
from deft_lightning.metrics import max_nmi, nmi
from deft_lightning.model.module import DEFT
from deft_lightning.training.callbacks._common import AtStageEnd, log_numbers

log = logging.getLogger(__name__)


class Scores(AtStageEnd):
    """Scores the model at every stage end (section 3.2) and keeps the scores in results.json.

    `settings` is the `metrics` part of a configuration, or a `scoring.Settings`. Reconstruction error and KL are
    always scored; without labels the metrics that need them are not. Raises `DeftError` for settings that cannot be.
    """

    def __init__(self, settings: scoring.Settings | Mapping[str, Any] | None = None) -> None:
        self.settings = settings if isinstance(settings, scoring.Settings) else scoring.Settings(**(settings or {}))

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say once for the whole fit what is not scored."""
        if trainer.is_global_zero and not data_of(trainer).dataset.factor_names:
            log.info("No labels: the scores that need them are skipped.")

    def at_stage_end(self, trainer: pl.Trainer, module: DEFT, data: FactorDataModule, stage: int) -> None:
        """Score on the fixed sample; log the scores and keep them in results.json."""
        settings, last = self.settings, stage == module.schedule.stages - 1
        table = codes_now(trainer, settings.num_points)
        record: dict[str, Any] = {
            "step": trainer.global_step,
            "pressure": module.schedule.at(trainer.global_step - 1, module.steps_per_epoch).pressure,
            "kl_per_latent": table.kl.tolist(),
        }
        if table.factors is not None and data.dataset.factor_names:
            names, matrix = data.dataset.factor_names, nmi(table.codes, table.factors, settings.bins)  # [D, K]
            record |= {
                "nmi": matrix.tolist(),
                "max1_nmi": dict(zip(names, max_nmi(matrix, 1).tolist(), strict=True)),
                "max2_nmi": dict(zip(names, max_nmi(matrix, 2).tolist(), strict=True)),
            }
        scored = scoring.score(settings.names if last else settings.each_stage, settings, table, module, data)
        scored.add_means(settings, reconstruction=reconstruction_errors(module, data, table), kl=table.kl_of_images())
        log_numbers(trainer, {f"score/{key}": value for key, value in scored.scores.items()})
        results.update(trainer.default_root_dir, stages={f"stage_{stage + 1}": record | scored.record()})

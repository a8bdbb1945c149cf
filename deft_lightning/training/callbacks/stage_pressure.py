"""Announces and logs every change of stage: pressure, active group, learning rate of every group."""

from __future__ import annotations

import logging
from typing import Any

import pytorch_lightning as pl

from deft_lightning.training.callbacks.base import DEFTCallback, as_deft, log_numbers

log = logging.getLogger(__name__)


class StagePressure(DEFTCallback):
    """Prints and logs which stage of Algorithm 1 begins; the module sets pressure and rates from the step itself."""

    def __init__(self) -> None:
        self._announced: int | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A resumed fit announces its stage again."""
        self._announced = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Announce the stage of this step if it is a new one."""
        module = as_deft(pl_module)
        stage = module.stage
        if stage.index == self._announced:
            return
        self._announced = stage.index
        rates = module.groups.learning_rates(stage.index, module.lr)
        active = module.groups.active(stage.index)
        if trainer.is_global_zero:
            log.info(
                "Stage %d of %d at step %s: %s %g, group %d active, learning rates %s",
                stage.index + 1,
                module.schedule.stages,
                f"{trainer.global_step:,}",
                module.schedule.quantity,
                stage.pressure,
                active + 1,
                ", ".join(f"{rate:.3g}" for rate in rates),
            )
        log_numbers(
            trainer,
            {
                "stage": stage.index + 1,
                module.schedule.quantity: stage.pressure,
                "active_group": active + 1,
                **{f"learning_rate/group_{i + 1}": rate for i, rate in enumerate(rates)},
            },
        )

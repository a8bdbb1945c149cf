"""Stops a run whose loss is no longer a number, before anything is scored, drawn or saved."""

from __future__ import annotations

from typing import Any, cast

import pytorch_lightning as pl
import torch

from deft_lightning.common.errors import DeftError
from deft_lightning.model.module import DEFT
from deft_lightning.training.callbacks._common import finished_stage


class FiniteLoss(pl.Callback):
    """Raises `DeftError`, naming step and stage, when the loss is NaN or infinite; stands first among callbacks.

    On a CPU every step is checked; elsewhere, where reading the loss stalls the device, every 50th and the
    last of every stage.
    """

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Check the loss of the step just taken."""
        step = trainer.global_step
        if pl_module.device.type == "cpu" or step % 50 == 0 or finished_stage(pl_module) is not None:
            check_finite(trainer, cast(DEFT, pl_module), outputs)


def check_finite(trainer: pl.Trainer, module: DEFT, outputs: Any) -> None:
    """Raise `DeftError` unless the loss in `outputs`, what a training step returned, is finite."""
    loss = outputs["loss"] if isinstance(outputs, dict) else outputs
    if bool(torch.isfinite(loss).all()):
        return
    step = trainer.global_step
    stage = module.schedule.at(step - 1, module.steps_per_epoch)
    raise DeftError(
        f"the loss is {float(loss)} at step {step:,} in stage {stage.index + 1} "
        f"({module.schedule.quantity} {stage.pressure:g}): the run has stopped, checkpoints/last.ckpt is from before; "
        "lower lr, or look at the data."
    )

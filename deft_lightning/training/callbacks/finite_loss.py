"""Stops a run whose loss is no longer finite, before anything is scored, drawn or saved."""

from __future__ import annotations

import pytorch_lightning as pl
import torch

from deft_lightning.common.errors import Diverged
from deft_lightning.model.module import DEFT
from deft_lightning.training.callbacks.base import DEFTCallback, Phase


class FiniteLoss(DEFTCallback):
    """Raises `Diverged`, naming step and stage, when the loss is NaN or infinite.

    On a CPU every step is checked; elsewhere, where reading the loss stalls the device, every 50th and the
    last of every stage.
    """

    phase = Phase.CHECK

    def after_step(self, trainer: pl.Trainer, module: DEFT, stage: int | None) -> None:
        """Check the loss of the latest step."""
        if module.device.type == "cpu" or trainer.global_step % 50 == 0 or stage is not None:
            check_finite(module)


def check_finite(module: DEFT) -> None:
    """Raise `Diverged` unless the loss of the latest step is finite."""
    loss = module.last_loss.total
    if bool(torch.isfinite(loss).all()):
        return
    step = module.global_step
    stage = module.timeline.at(step - 1)
    raise Diverged(
        f"the loss is {float(loss)} at step {step:,} in stage {stage.index + 1} "
        f"({module.schedule.quantity} {stage.pressure:g}): the run has stopped, checkpoints/last.ckpt is from an "
        "earlier step; lower lr, or look at the data."
    )

"""Training that goes on from the end of a stage while the pressure falls, to see where the next latent opens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from deft_lightning.data.datamodule import FactorDataModule
from deft_lightning.model.checkpoint import read_checkpoint
from deft_lightning.model.module import DEFT
from deft_lightning.model.schedules.base import Schedule, Timeline
from deft_lightning.thresholds import crossing
from deft_lightning.thresholds.loss_log import LossLog
from deft_lightning.training.callbacks.base import as_deft


@dataclass(frozen=True)
class Fall(Schedule):
    """The stage after another one, in which the pressure falls geometrically from that one's to 1.

    Attributes:
        groups: number of encoder groups.
        index: of the stage, counted from 0.
        begin: step at which it begins.
        steps: its length.
        high: pressure at its beginning.
    """

    groups: int
    index: int
    begin: int
    steps: int
    high: float
    fraction: float = 1.0

    @property
    def stages(self) -> int:
        return self.groups

    def timeline(self, steps_per_epoch: int) -> Timeline:
        end = self.begin + self.steps
        later = range(end, end + self.groups - self.index)  # a stage has at least one step
        return Timeline((*[self.begin] * self.index, *later), lambda index, step: self.at(step))

    def at(self, step: int) -> float:
        """The pressure at `step`."""
        return self.high ** max(0.0, 1 - (step - self.begin) / self.steps)


class _Record(pl.Callback):
    def __init__(self) -> None:
        self.losses = LossLog()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        parts = as_deft(pl_module).last_loss.parts
        self.losses.append(parts["reconstruction"], parts["kl/latent"])


def next_opening(
    checkpoint: Path, data: FactorDataModule, stage: int, pressure: float, steps: int, trust: bool = False
) -> float | None:
    """The pressure below which the KL of a further latent stays above 0.1 nats; None if that does not happen.

    The training goes on from `checkpoint`, at the end of the stage number `stage` and its `pressure`, with the next
    group active, while the pressure falls to 1 in `steps` steps.
    """
    begin = int(read_checkpoint(checkpoint)["global_step"])
    model = DEFT.load_from_checkpoint(checkpoint, trust=trust, compiled=True)
    model.schedule = schedule = Fall(max(len(model.groups), stage + 1), stage, begin, steps, pressure)
    record = _Record()
    trainer = pl.Trainer(
        max_steps=begin + steps,
        max_epochs=-1,
        callbacks=[record],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        devices=1,
    )
    trainer.fit(model, data, ckpt_path=checkpoint, weights_only=True)
    curve = record.losses.curve(Timeline((steps,), lambda index, step: schedule.at(begin + step)))
    closed = curve.kl_per_latent[: crossing.WINDOW].mean(axis=0) < crossing.LIMIT
    openings = [i for i, is_closed in zip(curve.latent_crossings(), closed, strict=True) if is_closed and i is not None]
    return float(curve.beta[min(openings)]) if openings else None

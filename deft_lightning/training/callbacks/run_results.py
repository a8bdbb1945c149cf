"""Keeps status, speed and memory of a run in results.json."""

from __future__ import annotations

import time

import pytorch_lightning as pl

from deft_lightning.common import results
from deft_lightning.common.errors import Incomplete
from deft_lightning.common.results import Status
from deft_lightning.data.datamodule import FactorDataModule
from deft_lightning.model.module import DEFT
from deft_lightning.training.callbacks.base import DEFTCallback, as_deft
from deft_lightning.training.measures import Measures, device_name

SECONDS = 5.0
"""How often the measures are written: a killed run loses few, and a sweep shows how far its jobs have come."""


class RunResults(DEFTCallback):
    """Writes how a fit proceeds: running, then how it ended, how fast it was and how much memory it took."""

    def __init__(self) -> None:
        self._measures: Measures | None = None
        self._written = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Mark the run as running, and start to measure."""
        if not trainer.is_global_zero:
            return
        data = getattr(trainer, "datamodule", None)
        batch_size = data.batch_size if isinstance(data, FactorDataModule) else None
        self._measures = Measures(trainer.default_root_dir, int(trainer.global_step), batch_size)
        results.update(
            trainer.default_root_dir,
            status=Status.RUNNING,
            reason=None,
            precision=str(trainer.precision),
            device=device_name(pl_module.device),
        )

    def after_step(self, trainer: pl.Trainer, module: DEFT, stage: int | None) -> None:
        if stage is not None or time.monotonic() - self._written >= SECONDS:
            self._write(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Mark the run as finished, or as interrupted where steps of the schedule are left."""
        self._write(trainer)
        if not trainer.is_global_zero:
            return
        if end := early_end(trainer, as_deft(pl_module)):
            results.record_end(trainer.default_root_dir, end)
        else:
            results.update(trainer.default_root_dir, status=Status.FINISHED, reason=None)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Write why the run ended."""
        self._write(trainer)
        if trainer.is_global_zero:
            results.record_end(trainer.default_root_dir, exception)

    def _write(self, trainer: pl.Trainer) -> None:
        if self._measures is not None:
            self._measures.write(int(trainer.global_step))
            self._written = time.monotonic()


def early_end(trainer: pl.Trainer, module: DEFT) -> Incomplete | None:
    """What to raise where the trainer has stopped before the last step of the schedule; None where it has not."""
    if trainer.global_step >= module.timeline.length:
        return None
    return Incomplete(
        f"the trainer stopped at step {trainer.global_step:,} of {module.timeline.length:,}, at a limit such as "
        "trainer.max_time or because of a callback: continue with resume=true and a higher limit, or none."
    )

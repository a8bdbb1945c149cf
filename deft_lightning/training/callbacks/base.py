"""What the callbacks share: when they act, what they are given, and where they log."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from pathlib import Path
from typing import Any, ClassVar

import pytorch_lightning as pl
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from deft_lightning.common.errors import DeftError
from deft_lightning.data.datamodule import FactorDataModule
from deft_lightning.model.module import DEFT


class Phase(IntEnum):
    """The order in which the callbacks of a run act after a step; `build.callbacks` sorts them by it."""

    CHECK = 0
    """The loss is checked before anything relies on it."""
    STAGES = 1
    """A stage may end, which the others must see."""
    EVALUATE = 2
    RECORD = 3
    SAVE = 4


class DEFTCallback(pl.Callback):
    """A callback that acts after every step of a DEFT module, in its `phase`."""

    phase: ClassVar[Phase] = Phase.RECORD

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Lightning's hook: calls `after_step`, once for all batches of a step."""
        module = as_deft(pl_module)
        if ends_step(trainer, batch_idx):
            self.after_step(trainer, module, finished_stage(module))

    def after_step(self, trainer: pl.Trainer, module: DEFT, stage: int | None) -> None:
        """Called after every step; `stage` is the index of the stage that the step has ended, None inside a stage."""


def as_deft(module: pl.LightningModule) -> DEFT:
    """`module`, which must be a DEFT module; raises `DeftError` otherwise."""
    if not isinstance(module, DEFT):
        raise DeftError(f"the callbacks of deft_lightning work on a DEFT module, not on {type(module).__name__}.")
    return module


def ends_step(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Whether the optimiser has taken a step after this batch: not after each where gradients are accumulated."""
    return (batch_idx + 1) % trainer.accumulate_grad_batches == 0 or trainer.is_last_batch


def images_per_step(trainer: pl.Trainer, batch: Any) -> int:
    """Images of an optimiser step whose batches are like `batch`: images, or a sequence that begins with them."""
    images = batch if isinstance(batch, Tensor) else batch[0]
    return len(images) * trainer.accumulate_grad_batches * trainer.world_size


def finished_stage(module: DEFT) -> int | None:
    """The index of the stage that the latest step has ended; None inside a stage."""
    boundaries, step = module.timeline.boundaries, module.global_step
    return boundaries.index(step) if step in boundaries else None


def scaled_epoch(module: DEFT) -> int:
    """Steps of an epoch, shortened as the schedule is but not below 50: the paper's "each epoch" at every scale."""
    return max(50, round(module.steps_per_epoch * module.schedule.fraction))


def data_of(trainer: pl.Trainer) -> FactorDataModule:
    """What gives samples of images and factors: the trainer's data module, or one of the Dataset that its loader reads.

    Raises `DeftError` when it trains on something else, which cannot be scored.
    """
    data, loader = getattr(trainer, "datamodule", None), trainer.train_dataloader
    if isinstance(data, FactorDataModule):
        return data
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        raise DeftError(
            "scores and pictures need images by their index: train on a FactorDataModule or on a DataLoader of a "
            "map-style Dataset, or leave these callbacks out."
        )
    module = as_deft(trainer.lightning_module)
    return FactorDataModule(loader.dataset, loader.batch_size or 1, module.seed, workers=loader.num_workers)


def log_numbers(trainer: pl.Trainer, numbers: Mapping[str, float]) -> None:
    """Send numbers to every logger at the current step."""
    for logger in trainer.loggers:
        logger.log_metrics(dict(numbers), step=trainer.global_step)


def log_image(trainer: pl.Trainer, key: str, image: Any) -> None:
    """Send a picture, a file or a PIL image, to the loggers that take pictures, at the current step."""
    for logger in picture_loggers(trainer):
        logger.log_image(key, [str(image) if isinstance(image, Path) else image], step=trainer.global_step)


def picture_loggers(trainer: pl.Trainer) -> list[Any]:
    """The loggers that take pictures."""
    return [logger for logger in trainer.loggers if hasattr(logger, "log_image")]

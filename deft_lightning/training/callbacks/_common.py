"""When callbacks are due, and how they log."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
from matplotlib.figure import Figure

from deft_lightning.data.datamodule import FactorDataModule
from deft_lightning.evaluation.codes import data_of
from deft_lightning.model.module import DEFT


def scaled_epoch(module: DEFT) -> int:
    """Steps of an epoch, shortened as the schedule is but not below 50: the paper's "each epoch" at every scale."""
    return max(50, round(module.steps_per_epoch * module.schedule.fraction))


def finished_stage(module: pl.LightningModule) -> int | None:
    """The index of the stage that the step just taken has ended; None in the middle of one."""
    boundaries = cast(DEFT, module).boundaries
    step = module.global_step
    return boundaries.index(step) if step in boundaries else None


class AtStageEnd(pl.Callback):
    """A callback that acts in the main process when a step has ended a stage."""

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Call `at_stage_end` where it is due."""
        stage = finished_stage(pl_module)
        if stage is not None and trainer.is_global_zero:
            self.at_stage_end(trainer, cast(DEFT, pl_module), data_of(trainer), stage)

    def at_stage_end(self, trainer: pl.Trainer, module: DEFT, data: FactorDataModule, stage: int) -> None:
        """What to do once stage number `stage`, counted from 0, has ended."""
        raise NotImplementedError


def log_numbers(trainer: pl.Trainer, numbers: Mapping[str, float]) -> None:
    """Send numbers to every logger at the current step."""
    for logger in trainer.loggers:
        logger.log_metrics(dict(numbers), step=trainer.global_step)


def log_image(trainer: pl.Trainer, key: str, path: Path) -> None:
    """Send a picture to the loggers that take pictures, at the current step."""
    for logger in trainer.loggers:
        if hasattr(logger, "log_image"):
            logger.log_image(key, [str(path)], step=trainer.global_step)


def save_figure(figure: Figure, trainer: pl.Trainer, name: str) -> Path:
    """Write a figure to the run folder's figures/ as PNG."""
    path = figures_folder(trainer) / f"{name}.png"
    figure.savefig(path, dpi=120, bbox_inches="tight")
    return path


def figures_folder(trainer: pl.Trainer) -> Path:
    """figures/ of the run folder, made when first needed."""
    folder = Path(trainer.default_root_dir) / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    return folder

"""A progress bar for the whole run: stage, pressure, loss parts, images per second, time left."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar
from rich.progress import Progress, TaskID, TextColumn
from rich.table import Column

from deft_lightning.common.console import duration, new_progress
from deft_lightning.training.callbacks.base import as_deft, ends_step, images_per_step

log = logging.getLogger(__name__)
WARM_UP = 20  # steps before the speed is measured, such as those that compile
MEASURE = 50  # steps that the first estimate is measured over


class RunProgress(ProgressBar):
    """A bar over all stages, redrawn at most every `refresh_seconds`; logs after 70 steps how long the run takes."""

    def __init__(self, refresh_seconds: float = 0.5) -> None:
        super().__init__()
        self.refresh_seconds = refresh_seconds
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._clock: tuple[int, float] | None = None
        self._drawn = 0.0
        self._first_step = 0

    def disable(self) -> None:
        """Draw nothing: called by Lightning in all processes but the first."""
        self._progress = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the bar, from the step at which the run starts or resumes."""
        self._clock, self._drawn, self._first_step = None, 0.0, trainer.global_step
        if not trainer.is_global_zero:
            return
        numbers = TextColumn("{task.fields[numbers]}", table_column=Column())  # only this wraps on a narrow terminal
        self._progress = new_progress(numbers, auto_refresh=False)
        self._progress.start()
        total = as_deft(pl_module).timeline.length
        self._task = self._progress.add_task("", total=total, completed=trainer.global_step, numbers="")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Redraw the bar, if `refresh_seconds` have passed or the run is over."""
        if self._progress is None or not ends_step(trainer, batch_idx):
            return
        module, now, step = as_deft(pl_module), time.monotonic(), trainer.global_step
        if step == self._first_step + WARM_UP:
            self._clock = step, now
        if self._clock is not None and step == self._first_step + WARM_UP + MEASURE:
            self._announce(step, now, module.timeline.length, images_per_step(trainer, batch))
        last = step == module.timeline.length
        if not last and now - self._drawn < self.refresh_seconds:
            return
        self._drawn = now
        schedule = module.schedule
        stage = module.timeline.at(step - 1)
        loss = module.last_loss.parts
        parts = [f"{name} {float(loss[name]):.1f}" for name in ("reconstruction", "kl") if name in loss]
        if self._clock is not None and step > self._clock[0]:
            rate = (step - self._clock[0]) * images_per_step(trainer, batch) / (now - self._clock[1])
            parts.append(f"{rate:,.0f} images/s")
        self._progress.update(
            self._task,
            completed=step,
            total=module.timeline.length,  # stages may end early
            description=f"stage {stage.index + 1}/{schedule.stages}  {schedule.quantity} {stage.pressure:g}",
            numbers="  ".join(parts),
            refresh=True,
        )

    def _announce(self, step: int, now: float, total: int, images: int) -> None:
        assert self._clock is not None
        rate = (step - self._clock[0]) / (now - self._clock[1])
        log.info(
            "%s images/s: the remaining %s steps take about %s.",
            f"{rate * images:,.0f}",
            f"{total - step:,}",
            duration((total - step) / rate),
        )

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop redrawing; the finished bar stays on the screen."""
        self._close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Stop redrawing; the bar shows where the run stopped."""
        self._close()

    def _close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

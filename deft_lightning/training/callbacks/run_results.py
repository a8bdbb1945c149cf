"""Keeps status, timings and the last losses of a run in results.json."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl

from deft_lightning.common import results
from deft_lightning.common.errors import Interrupted


class RunResults(pl.Callback):
    """Writes how a fit goes: running, then finished, interrupted or failed with the reason, and how long it took."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._first_step = 0
        self._before = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Mark the run as running; seconds of earlier sessions of the same run add up."""
        self._started, self._first_step = time.monotonic(), trainer.global_step
        if trainer.is_global_zero:
            self._before = results.read(trainer.default_root_dir).get("timings", {}).get("train_seconds", 0.0)
            results.update(trainer.default_root_dir, status="running", reason=None)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Mark the run as finished."""
        self._write(trainer, "finished", None)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Mark the run as interrupted (a signal) or failed (anything else)."""
        interrupted = isinstance(exception, Interrupted | KeyboardInterrupt | SystemExit)
        reason = str(exception) or type(exception).__name__
        self._write(trainer, "interrupted" if interrupted else "failed", reason)

    def _write(self, trainer: pl.Trainer, status: str, reason: str | None) -> None:
        if not trainer.is_global_zero:
            return
        seconds = time.monotonic() - self._started
        steps = trainer.global_step - self._first_step
        timings: dict[str, Any] = {"train_seconds": round(self._before + seconds, 1)}
        if steps and seconds:
            timings["steps_per_second"] = round(steps / seconds, 2)
        results.update(
            trainer.default_root_dir, status=status, reason=reason, steps=trainer.global_step, timings=timings
        )

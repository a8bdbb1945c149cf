"""checkpoints/last.ckpt, one checkpoint a stage, and a stop that loses nothing."""

from __future__ import annotations

import logging
import os
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint

from deft_lightning.common import checks, files
from deft_lightning.common.errors import DeftError, Diverged, Interrupted
from deft_lightning.common.signals import stop_signals
from deft_lightning.training.callbacks.base import Phase, as_deft, ends_step, finished_stage
from deft_lightning.training.callbacks.finite_loss import check_finite

log = logging.getLogger(__name__)


class Checkpoints(Checkpoint):
    """Saves every `every_n_steps` steps, at every stage end, at an early end, and when a signal asks the run to stop.

    The signals are SIGINT, SIGTERM, SIGHUP (a closed terminal) and a cluster's SIGUSR2, see `stop_signals`. The run
    stops after the step that is running; a second SIGINT stops it at once.

    last.ckpt is replaced whole or not at all; stage_1.ckpt and so on stay. A loss that is not finite raises
    `Diverged` before anything is saved, so last.ckpt is the last good one.
    """

    phase: ClassVar[Phase] = Phase.SAVE

    def __init__(self, every_n_steps: int = 1000) -> None:
        self.every_n_steps = checks.whole("callbacks.checkpoints.every_n_steps", every_n_steps, 1)
        self._stop: str | None = None
        self._signal: int | None = None
        self._interruption: Interrupted | None = None
        self._handlers: dict[int, Any] = {}
        self._saved_step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Handle the signals; Lightning's own handlers stop in the middle of a step."""
        self._stop = self._signal = self._interruption = None
        self._saved_step = int(trainer.global_step)
        if threading.current_thread() is threading.main_thread():
            for number in stop_signals():
                self._handlers[number] = signal.signal(number, self._ask_to_stop)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save where the trainer stops early, such as at `max_time`; restore the signals' previous handlers."""
        if trainer.global_step > self._saved_step:
            self._save(trainer, pl_module)
        self._restore_handlers()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Restore the signals' previous handlers."""
        self._restore_handlers()

    def _restore_handlers(self) -> None:
        while self._handlers:
            number, handler = self._handlers.popitem()
            signal.signal(number, handler)

    def _ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if number == signal.SIGINT and self._stop is not None:
            raise KeyboardInterrupt(f"the run was stopped at once by SIGINT, after it was {self._stop}")
        log.info("%s: stopping after this step, once its checkpoint is saved.", name)
        self._stop, self._signal = f"stopped by {name}", number

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save what is due."""
        if not ends_step(trainer, batch_idx):
            return
        module, step = as_deft(pl_module), int(trainer.global_step)
        stop = self._stop is not None
        if trainer.world_size > 1:  # the signal may reach one process a step before another
            stop = trainer.strategy.reduce_boolean_decision(stop, all=False)
        if step % self.every_n_steps == 0 or finished_stage(module) is not None or stop:
            self._save(trainer, module)
        if stop and step < module.timeline.length:
            self._interruption = Interrupted(
                f"the run was {self._stop or 'stopped'} at step {step:,}: resume=true continues from there.",
                self._signal,
            )

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Raise `Interrupted` where a stop was asked for: by now Lightning has logged the numbers of the last step."""
        if self._interruption is not None:
            raise self._interruption

    def _save(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        module = as_deft(pl_module)
        check_finite(module)
        _check_weights(module)  # a finite loss may have had infinite gradients
        folder, stage = Path(trainer.default_root_dir) / "checkpoints", finished_stage(module)
        path = folder / "last.ckpt"
        try:
            for logger in trainer.loggers:
                logger.save()  # a resumed run keeps the numbers up to its checkpoint: they must be on disk by then
            if trainer.is_global_zero:
                with files.replaced(path) as temporary:
                    trainer.save_checkpoint(temporary, weights_only=False)
                if stage is not None:
                    link_or_copy(path, folder / f"stage_{stage + 1}.ckpt")
            else:
                trainer.save_checkpoint(path, weights_only=False)  # every rank takes part; the first one writes
        except OSError as error:
            raise DeftError(f"the checkpoint {path} cannot be written ({error}): make room, then resume.") from error
        self._saved_step = int(trainer.global_step)


def _check_weights(module: pl.LightningModule) -> None:
    for name, parameter in module.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise Diverged(
                f"{name} holds NaN or infinite values at step {module.global_step:,}: the run has stopped, "
                "checkpoints/last.ckpt is from an earlier step; lower lr, or look at the data."
            )


def link_or_copy(source: Path, target: Path) -> None:
    """Give a finished checkpoint a second name, replacing an older file of that name whole."""
    with files.replaced(target) as temporary:
        temporary.unlink(missing_ok=True)
        try:
            os.link(source, temporary)  # last.ckpt is only ever replaced, so the two never change together
        except OSError:
            temporary.write_bytes(source.read_bytes())

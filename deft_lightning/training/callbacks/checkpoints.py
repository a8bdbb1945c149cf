"""checkpoints/last.ckpt, one checkpoint a stage, and a stop that loses nothing."""

from __future__ import annotations

import logging
import os
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint

from deft_lightning.common.errors import DeftError, Interrupted
from deft_lightning.model.module import DEFT
from deft_lightning.training.callbacks._common import finished_stage
from deft_lightning.training.callbacks.finite_loss import check_finite

log = logging.getLogger(__name__)


class Checkpoints(Checkpoint):
    """Saves every `every_n_steps` steps, at every stage end and on SIGINT, SIGTERM or a cluster's SIGUSR2.

    A signal stops the run after the step that is running; a second SIGINT stops it at once. SIGUSR2 is listened to
    where a launcher already does, as submitit does to queue the job again.

    last.ckpt is replaced whole or not at all; stage_1.ckpt and so on stay. A loss that is not finite raises
    `DeftError` before anything is saved, so last.ckpt is the last good one.
    """

    def __init__(self, every_n_steps: int = 1000) -> None:
        if not isinstance(every_n_steps, int) or every_n_steps < 1:
            raise DeftError(f"callbacks.checkpoints.every_n_steps is {every_n_steps!r}: give a whole number above 0.")
        self.every_n_steps = every_n_steps
        self._stop: str | None = None
        self._signal: int | None = None
        self._interruption: Interrupted | None = None
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen to SIGINT and SIGTERM; Lightning's own handlers stop in the middle of a step."""
        self._stop = self._signal = self._interruption = None
        if threading.current_thread() is threading.main_thread():
            requeue = [signal.SIGUSR2] if callable(signal.getsignal(signal.SIGUSR2)) else []
            for number in (signal.SIGINT, signal.SIGTERM, *requeue):
                self._handlers[number] = signal.signal(number, self._ask_to_stop)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the signals to whom they belonged."""
        while self._handlers:
            number, handler = self._handlers.popitem()
            signal.signal(number, handler)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Leave the signals to whom they belonged."""
        self.on_train_end(trainer, pl_module)

    def _ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if number == signal.SIGINT and self._stop is not None:
            raise KeyboardInterrupt("stopped at once by a second SIGINT")
        log.info("%s: stopping after this step, once its checkpoint is saved.", name)
        self._stop, self._signal = f"stopped by {name}", number

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save what is due."""
        step, stage = trainer.global_step, finished_stage(pl_module)
        stop = self._stop is not None
        if trainer.world_size > 1:  # the signal may reach one process a step before another
            stop = trainer.strategy.reduce_boolean_decision(stop, all=False)
        due = step % self.every_n_steps == 0 or stage is not None or stop
        if due:
            check_finite(trainer, cast(DEFT, pl_module), outputs)
            _check_weights(pl_module)  # a finite loss may have had infinite gradients
            self._save(trainer, Path(trainer.default_root_dir) / "checkpoints", stage)
        if stop and step < cast(DEFT, pl_module).boundaries[-1]:
            self._interruption = Interrupted(
                f"the run was {self._stop or 'stopped'} at step {step:,}: resume=true goes on from there.", self._signal
            )

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Raise `Interrupted` where a stop was asked for: by now Lightning has logged the numbers of the last step."""
        if self._interruption is not None:
            raise self._interruption

    def _save(self, trainer: pl.Trainer, folder: Path, stage: int | None) -> None:
        path, temporary = folder / "last.ckpt", folder / ".last.ckpt.tmp"
        try:
            for logger in trainer.loggers:
                logger.save()  # a resumed run keeps the numbers up to its checkpoint: they must be on disk by then
            trainer.save_checkpoint(temporary, weights_only=False)  # on every rank: the strategy decides who writes
            if trainer.is_global_zero:
                os.replace(temporary, path)
                if stage is not None:
                    link_or_copy(path, folder / f"stage_{stage + 1}.ckpt")
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise DeftError(f"the checkpoint {path} cannot be written ({error}): make room, then resume.") from error


def _check_weights(module: pl.LightningModule) -> None:
    for name, parameter in module.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise DeftError(
                f"{name} holds NaN or infinite values at step {module.global_step:,}: the run has stopped, "
                "checkpoints/last.ckpt is from before; lower lr, or look at the data."
            )


def link_or_copy(source: Path, target: Path) -> None:
    """Give a finished checkpoint a second name, replacing an older file of that name whole."""
    temporary = target.with_name(f".{target.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)  # last.ckpt is only ever replaced, so the two never change together
    except OSError:
        temporary.write_bytes(source.read_bytes())
    os.replace(temporary, target)

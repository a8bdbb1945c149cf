"""Tells an adaptive schedule what the active group learns, and the trainer when the last stage is over."""

from __future__ import annotations

import logging
from typing import Any, cast

import pytorch_lightning as pl
import torch

from deft_lightning.common import results
from deft_lightning.common.errors import DeftError
from deft_lightning.model.module import DEFT
from deft_lightning.model.schedules.adaptive import Adaptive

log = logging.getLogger(__name__)


class AdaptiveStages(pl.Callback):
    """Feeds the KL of the active group to `schedule=adaptive`; does nothing under another schedule.

    It stands before the callbacks that act at the end of a stage. The KL is known at the steps that the module logs,
    every `log_every_n_steps` of the trainer. The schedule's state is in the checkpoint, so that a resumed run ends
    its stages where an uninterrupted one does. Raises `DeftError` when nothing would be logged in a window.
    """

    def __init__(self) -> None:
        self._schedule: Adaptive | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Find the schedule, before the state of a checkpoint is given to it."""
        schedule = cast(DEFT, pl_module).schedule
        self._schedule = schedule if isinstance(schedule, Adaptive) else None
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if self._schedule is not None and not 0 < every <= self._schedule.window:
            raise DeftError(
                f"schedule.window is {self._schedule.window} steps and trainer.log_every_n_steps {every}, so that "
                "no KL is seen in a window: lower log_every_n_steps, or widen the window."
            )

    def state_dict(self) -> dict[str, Any]:
        """What the schedule has learnt."""
        return {} if self._schedule is None else self._schedule.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with what the schedule had learnt."""
        if self._schedule is not None:
            self._schedule.state = state_dict

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say where stages have ended before, and take no step after the last: a run may be killed right at its end."""
        if self._schedule is None:
            return
        if trainer.is_global_zero:
            results.update(trainer.default_root_dir, boundaries=list(cast(DEFT, pl_module).boundaries))
        if self._schedule.finished:
            trainer.should_stop = True

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """End the stage where its group has settled; stop after the last."""
        schedule, module, step = self._schedule, cast(DEFT, pl_module), trainer.global_step
        if schedule is None:
            return
        stage = schedule.at(step - 1, module.steps_per_epoch)
        bound = schedule.boundaries(module.steps_per_epoch)[stage.index]
        logged = step % trainer.log_every_n_steps == 0  # type: ignore[attr-defined]
        kl = _active_kl(trainer, module, stage.index) if logged else None
        if not schedule.observe(step, kl, module.steps_per_epoch):
            return
        if trainer.is_global_zero:
            why = "its time was over" if step == bound else "the KL of its group has settled"
            log.info("Stage %d of %d ended at step %s: %s.", stage.index + 1, schedule.stages, f"{step:,}", why)
            results.update(trainer.default_root_dir, boundaries=list(module.boundaries))
        if stage.index + 1 == schedule.stages:
            trainer.should_stop = True


def _active_kl(trainer: pl.Trainer, module: DEFT, stage: int) -> float:
    """KL of the active group in nats, averaged over the processes: all of them must end a stage at the same step."""
    active, latents = module.groups.active(stage), module.groups.latents
    first = sum(latents[:active])
    values = [trainer.callback_metrics[f"train/kl/latent_{j:02d}"] for j in range(first, first + latents[active])]
    return float(trainer.strategy.reduce(torch.stack(values).sum(), reduce_op="mean"))

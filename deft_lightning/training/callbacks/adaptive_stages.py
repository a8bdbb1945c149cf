"""Passes the KL of the active group to an adaptive schedule, and stops the trainer after the last stage."""

from __future__ import annotations

import logging
from typing import Any

import pytorch_lightning as pl
import torch

from deft_lightning.common import results
from deft_lightning.model.module import DEFT
from deft_lightning.model.schedules.adaptive import AdaptiveTimeline
from deft_lightning.training.callbacks.base import DEFTCallback, Phase, as_deft

log = logging.getLogger(__name__)


class AdaptiveStages(DEFTCallback):
    """Passes the KL of the active group to `schedule=adaptive`; does nothing under another schedule.

    The KL of every step is added up on the device and read once a window. The state of the schedule and of the window
    is in the checkpoint, so that a resumed run ends its stages where an uninterrupted one does.
    """

    phase = Phase.STAGES

    def __init__(self) -> None:
        self._timeline: AdaptiveTimeline | None = None
        self._restored: dict[str, Any] | None = None  # from a checkpoint, which is read before the data are known
        self._sum: torch.Tensor | None = None  # of the KL in this window, in nats
        self._count = 0  # steps in this window

    def state_dict(self) -> dict[str, Any]:
        """What the schedule has learnt, and the window so far."""
        if self._timeline is None:
            return {}
        return {**self._timeline.state, "sum": self._sum, "count": self._count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep what the schedule had learnt until the training starts."""
        self._restored = state_dict or None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the schedule and write where stages have ended; take no step after the last of them."""
        previous, timeline = self._timeline, as_deft(pl_module).timeline
        self._timeline = timeline if isinstance(timeline, AdaptiveTimeline) else None
        if not isinstance(timeline, AdaptiveTimeline):
            return
        if timeline is not previous:
            self._sum, self._count = None, 0
        if self._restored is not None:
            timeline.state = self._restored
            self._sum, self._count = self._restored["sum"], self._restored["count"]
            self._restored = None
        if trainer.is_global_zero:
            results.update(trainer.default_root_dir, boundaries=list(timeline.boundaries))
        if timeline.finished:  # the run was killed right after its last step
            trainer.should_stop = True

    def after_step(self, trainer: pl.Trainer, module: DEFT, stage: int | None) -> None:
        """End the stage where its group has settled; stop after the last."""
        timeline, step = self._timeline, int(trainer.global_step)
        if timeline is None:
            return
        index = timeline.at(step - 1).index
        bound = timeline.boundaries[index]
        mean = self._add(trainer, module, index, timeline.window_ends(step))
        if not timeline.observe(step, mean):
            return
        self._sum, self._count = None, 0
        if trainer.is_global_zero:
            why = "its time was over" if step == bound else "the KL of its group has settled"
            log.info("Stage %d of %d ended at step %s: %s.", index + 1, module.schedule.stages, f"{step:,}", why)
            results.update(trainer.default_root_dir, boundaries=list(timeline.boundaries))
        if timeline.finished:
            trainer.should_stop = True

    def _add(self, trainer: pl.Trainer, module: DEFT, stage: int, window_ends: bool) -> float | None:
        """Add the KL of the step's active group, in nats; at the end of a window its mean over steps and processes."""
        latents = module.groups.latent_slice(module.groups.active(stage))
        kl = module.last_loss.parts["kl/latent"][latents].sum()
        self._sum = kl if self._sum is None else self._sum.to(kl.device) + kl
        self._count += 1
        if not window_ends:
            return None
        mean = trainer.strategy.reduce(self._sum / self._count, reduce_op="mean")
        self._sum, self._count = None, 0
        return float(mean)

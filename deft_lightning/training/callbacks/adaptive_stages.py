"""Passes the KL of the latents to a schedule that follows the training; stops the trainer after the last stage."""

from __future__ import annotations

import logging
from typing import Any

import pytorch_lightning as pl
import torch

from deft_lightning.common import results
from deft_lightning.common.errors import DeftError
from deft_lightning.model.module import DEFT
from deft_lightning.model.schedules.observed import ObservedTimeline
from deft_lightning.training.callbacks.base import DEFTCallback, Phase, as_deft

log = logging.getLogger(__name__)


class AdaptiveStages(DEFTCallback):
    """Passes the KL of the latents to `schedule=adaptive` and `distil`; does nothing under other schedules.

    The KL of every step is added up on the device and read once a window. The state of the schedule and of the window
    is in the checkpoint, so that a resumed run ends its stages where an uninterrupted one does.
    """

    phase = Phase.STAGES

    def __init__(self) -> None:
        self._timeline: ObservedTimeline | None = None
        self._restored: dict[str, Any] | None = None  # from a checkpoint, which is read before the data are known
        self._sum: torch.Tensor | None = None  # of the KL of every latent in this window, [D], in nats
        self._count = 0  # steps in this window

    def state_dict(self) -> dict[str, Any]:
        """What the schedule has learnt, and the window so far."""
        if self._timeline is None:
            return {}
        return {**self._timeline.state, "sum": self._sum, "count": self._count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep what the schedule had learnt until the training starts."""
        self._restored = dict(state_dict) or None
        if self._restored and self._restored["sum"] is not None and self._restored["sum"].dim() == 0:
            raise DeftError(
                "the checkpoint of this run was written by an earlier version of deft_lightning, whose stages ended by "
                "another sum: resume it with that version, or start it anew."
            )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the schedule and write where stages have ended; take no step after the last of them."""
        previous, timeline = self._timeline, as_deft(pl_module).timeline
        self._timeline = timeline if isinstance(timeline, ObservedTimeline) else None
        if not isinstance(timeline, ObservedTimeline):
            return
        timeline.reported = True
        if timeline is not previous:
            self._sum, self._count = None, 0
        if self._restored is not None:
            self._sum, self._count = self._restored.pop("sum"), self._restored.pop("count")
            timeline.state = self._restored
            self._restored = None
        if trainer.is_global_zero:
            results.update(trainer.default_root_dir, **timeline.record)
            if trainer.global_step == 0:
                _warn_of_short_stages(timeline)
        if timeline.finished:  # the run was killed right after its last step
            trainer.should_stop = True

    def after_step(self, trainer: pl.Trainer, module: DEFT, stage: int | None) -> None:
        """End the stage where its group has settled; stop after the last."""
        timeline, step = self._timeline, int(trainer.global_step)
        if timeline is None:
            return
        index, before = timeline.at(step - 1).index, timeline.at(step - 1).pressure
        bound = timeline.boundaries[index]
        ended = timeline.observe(step, self._add(trainer, module, timeline.window_ends(step)))
        now = timeline.at(step).pressure
        name = f"Stage {index + 1} of {module.schedule.stages}"
        if ended:
            self._sum, self._count = None, 0
            why = "its time was over" if step == bound else "the KL of its group has settled"
            self._tell(trainer, f"{name} ended at step {step:,}: {why}.")
        elif now != before:
            self._tell(trainer, f"{name}: {module.schedule.quantity} {now:g} from step {step:,}.")
        if timeline.finished:
            trainer.should_stop = True

    def _tell(self, trainer: pl.Trainer, message: str) -> None:
        assert self._timeline is not None
        if trainer.is_global_zero:
            log.info("%s", message)
            results.update(trainer.default_root_dir, **self._timeline.record)

    def _add(self, trainer: pl.Trainer, module: DEFT, window_ends: bool) -> list[list[float]] | None:
        """Add the KL of the step's latents, in nats; at the end of a window its mean over steps and processes."""
        kl = module.last_loss.parts["kl/latent"]
        self._sum = kl if self._sum is None else self._sum.to(kl.device) + kl
        self._count += 1
        if not window_ends:
            return None
        mean = trainer.strategy.reduce(self._sum / self._count, reduce_op="mean").tolist()
        self._sum, self._count = None, 0
        return [mean[module.groups.latent_slice(group)] for group in range(len(module.groups))]


def _warn_of_short_stages(timeline: ObservedTimeline) -> None:
    """Say when the first stage is over before anything can settle, as with few images, whose epochs are short."""
    first, settling = timeline.boundaries[0], timeline.settling
    if first < settling:
        log.warning(
            "Stage 1 lasts %s steps at most, and a KL can have settled after %s (%d windows of %d) at the earliest: "
            "stages end by their time alone. Train at least %d times as long (schedule.epochs), or use a shorter "
            "schedule.window.",
            f"{first:,}",
            f"{settling:,}",
            settling // timeline.window,
            timeline.window,
            -(-settling // first),
        )

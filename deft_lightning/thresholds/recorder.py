"""Records an anneal test: beta, reconstruction and KL of every step, and the thresholds at its end."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from deft_lightning.common import results
from deft_lightning.common.errors import DeftError
from deft_lightning.model.module import DEFT
from deft_lightning.thresholds import crossing, figures, record
from deft_lightning.training.callbacks.base import DEFTCallback, as_deft, data_of, log_image, save_figure

log = logging.getLogger(__name__)
SETTLING = 500  # steps that the KL of fresh weights is given to fall below the limit
BLOCK = 100  # steps whose numbers stay on the device before they are read at once


class AnnealRecorder(DEFTCallback):
    """Records beta, reconstruction and KL, in total and per latent, at every step.

    The threshold is the beta at which the KL, averaged over `window` steps, first stays above `limit` nats until the
    end. Afterwards thresholds.json, a figure and a summary in results.json are in the run folder. The records are in
    the checkpoint, so that a resumed test gives the same.

    Raises `DeftError` when there is only one image, and when the KL has been above the limit since the start: then
    after a tenth of the test (at least 500 steps), since beta_high must be raised.
    """

    def __init__(self, limit: float = crossing.LIMIT, window: int = crossing.WINDOW) -> None:
        crossing.check_rule(limit, window)
        self.limit, self.window = limit, window
        self._rows = torch.empty(0)  # [n, 1 + D]: reconstruction and the KL of each latent, in nats
        self._block: list[torch.Tensor] = []  # the rows of the latest steps, on the device

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse a data set in which nothing varies."""
        crossing.check_size(len(data_of(trainer).dataset))

    def state_dict(self) -> dict[str, Any]:
        """The records so far."""
        self._read()
        return {"rows": self._rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue with the records of the checkpoint."""
        self._rows = state_dict["rows"]

    def after_step(self, trainer: pl.Trainer, module: DEFT, stage: int | None) -> None:
        """Record the latest step; stop a test early whose beta_high is too low."""
        parts, step = module.last_loss.parts, int(trainer.global_step)
        self._block.append(torch.cat([parts["reconstruction"][None], parts["kl/latent"]]))
        if len(self._block) < BLOCK:
            return
        self._read()
        if step >= max(SETTLING, module.timeline.length // 10):
            self._check_start(module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find the thresholds; write thresholds.json, the figure of the paper (Fig. 3) and the summary."""
        module, data = as_deft(pl_module), data_of(trainer)
        if not trainer.is_global_zero or trainer.global_step < module.timeline.length:
            return
        self._read()
        self._check_start(module)
        folder, curve = Path(trainer.default_root_dir), self.curve(module)
        settings = {
            "beta_high": self._beta_high(module),
            "steps": module.timeline.length,
            "batch_size": data.batch_size,
            "lr": module.lr,
            "seed": module.seed,
            "limit": self.limit,
            "window": self.window,
        }
        outcome = crossing.outcome(curve, self.limit, self.window)
        description = data.dataset.description
        content = {"kind": "anneal", "finished": True, "data": description, "settings": settings, **outcome}
        record.write(folder, content)
        results.update(
            folder,
            thresholds={
                "kind": "anneal",
                "file": record.FILE,
                "threshold": outcome["threshold"],
                "latent_thresholds": outcome["latent_thresholds"],
            },
        )
        title = f"{description['name']}, seed {module.seed}"
        figure = figures.anneal_figure(curve, self.limit, self.window, title)
        log_image(trainer, "thresholds/anneal", save_figure(figure, folder, "anneal"))
        for notice in outcome["notices"]:
            log.info(notice)

    def curve(self, module: DEFT) -> crossing.Curve:
        """What has been recorded so far."""
        rows = self._rows.double().numpy()
        steps = np.arange(1, len(rows) + 1)
        betas = np.array([module.timeline.at(int(step) - 1).pressure for step in steps])
        return crossing.Curve(steps, betas, rows[:, 0], rows[:, 1:])

    def _read(self) -> None:
        """Move the rows of the latest steps from the device to the records."""
        if self._block:
            block = torch.stack(self._block).float().cpu()
            self._rows = block if not len(self._rows) else torch.cat([self._rows, block])
            self._block = []

    def _check_start(self, module: DEFT) -> None:
        beta_high = self._beta_high(module)
        better = crossing.starts_above(self.curve(module), beta_high, self.limit, self.window)
        if better is not None:
            raise DeftError(crossing.too_low(beta_high, self.limit, better))

    @staticmethod
    def _beta_high(module: DEFT) -> float:
        return float(module.timeline.at(0).pressure)

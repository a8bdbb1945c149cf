"""Watches an anneal test: the curve of beta, reconstruction and KL, and the thresholds at its end."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch

from deft_lightning.common import results
from deft_lightning.common.errors import DeftError
from deft_lightning.evaluation.codes import data_of
from deft_lightning.model.module import DEFT
from deft_lightning.thresholds import crossing, figures, record
from deft_lightning.training.callbacks._common import log_image, save_figure

log = logging.getLogger(__name__)
SETTLING = 500  # steps that the KL of fresh weights is given to fall below the limit


class AnnealRecorder(pl.Callback):
    """Records beta, reconstruction and KL, in total and per latent, at every step that the module logs.

    That is every `log_every_n_steps` of the trainer. The threshold is the beta at which the KL, averaged over
    `window` steps, first stays above `limit` nats until the end. Afterwards thresholds.json, a figure and a summary
    in results.json are in the run folder. What was recorded is in the checkpoint, so that a resumed test is the same.

    Raises `DeftError` when there is one image, and when the KL has been above the limit since the start: then after
    a tenth of the test (at least 500 steps), since beta_high must be raised.
    """

    def __init__(self, limit: float = crossing.LIMIT, window: int = crossing.WINDOW) -> None:
        crossing.check_rule(limit, window)
        self.limit, self.window = limit, window
        self._rows: list[list[float]] = []  # step, beta, reconstruction, KL of each latent

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse a data set in which nothing varies."""
        crossing.check_size(len(data_of(trainer).dataset))

    def state_dict(self) -> dict[str, Any]:
        """The records so far."""
        return {"rows": torch.tensor(self._rows, dtype=torch.float64)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the records of the checkpoint."""
        self._rows = state_dict["rows"].tolist()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record the step just taken, if the module has logged it; stop early a test that begins too low."""
        module, step = cast(DEFT, pl_module), trainer.global_step
        if step % trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return
        seen = trainer.callback_metrics
        latents = range(sum(module.groups.latents))
        values = [seen["train/reconstruction"], *(seen[f"train/kl/latent_{i:02d}"] for i in latents)]
        self._rows.append([step, self._beta(module, step), *(float(value) for value in values)])
        if step >= max(SETTLING, module.boundaries[-1] // 10):
            self._check_start(self._beta(module, 0))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find the thresholds; write thresholds.json, the figure of the paper (Fig. 3) and the summary."""
        module, data = cast(DEFT, pl_module), data_of(trainer)
        if not trainer.is_global_zero or trainer.global_step < module.boundaries[-1]:
            return
        if not self._rows:
            raise DeftError(
                f"trainer.log_every_n_steps is more than the {trainer.global_step} steps of the test, so that nothing "
                "was recorded: lower it."
            )
        self._check_start(self._beta(module, 0))
        folder = Path(trainer.default_root_dir)
        settings = {
            "beta_high": self._beta(module, 0),
            "steps": module.boundaries[-1],
            "batch_size": data.batch_size,
            "lr": module.lr,
            "seed": module.seed,
        }
        settings |= {"limit": self.limit, "window": self.window}
        found = crossing.outcome(self.curve, self.limit, self.window)
        description = data.dataset.description
        record.write(folder, {"kind": "anneal", "finished": True, "data": description, "settings": settings, **found})
        results.update(
            folder,
            thresholds={
                "kind": "anneal",
                "file": record.FILE,
                "threshold": found["threshold"],
                "latent_thresholds": found["latent_thresholds"],
            },
        )
        title = f"{description['name']}, seed {module.seed}"
        figure = figures.anneal_figure(self.curve, self.limit, self.window, title)
        log_image(trainer, "thresholds/anneal", save_figure(figure, trainer, "anneal"))
        for notice in found["notices"]:
            log.info(notice)

    @property
    def curve(self) -> crossing.Curve:
        """What has been recorded so far."""
        rows = np.array(self._rows, dtype=np.float64)
        return crossing.Curve(rows[:, 0].astype(np.int64), rows[:, 1], rows[:, 2], rows[:, 3:])

    def _check_start(self, beta_high: float) -> None:
        better = crossing.starts_above(self.curve, beta_high, self.limit, self.window)
        if better is not None:
            raise DeftError(crossing.too_low(beta_high, self.limit, better))

    @staticmethod
    def _beta(module: DEFT, step: int) -> float:
        return float(module.schedule.at(max(step - 1, 0), module.steps_per_epoch).pressure)

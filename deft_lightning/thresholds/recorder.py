"""Records an anneal test: beta, reconstruction and KL of every step, and the thresholds at its end."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from deft_lightning.common import results
from deft_lightning.common.errors import DeftError
from deft_lightning.data.spectrum import spectrum_of
from deft_lightning.model.module import DEFT
from deft_lightning.report.figures.thresholds import anneal_figure
from deft_lightning.thresholds import crossing, record
from deft_lightning.thresholds.loss_log import LossLog
from deft_lightning.training.callbacks.base import DEFTCallback, as_deft, data_of, log_image
from deft_lightning.training.figures import save_figure
from deft_lightning.training.resolution import noise_variance

log = logging.getLogger(__name__)


class AnnealRecorder(DEFTCallback):
    """Records beta, reconstruction and KL, in total and per latent, at every step.

    The threshold is the beta at which the KL, averaged over `window` steps, begins to stay above `limit` nats until the
    end. At the end of the test, thresholds.json, figures/anneal.png and a summary in results.json are written. The
    records are saved in the checkpoint, so a resumed test gives the same thresholds.

    Raises `DeftError` when there is only one image, and when beta_high is too low: after a tenth of the test, but at
    least 500 steps.
    """

    def __init__(self, limit: float = crossing.LIMIT, window: int = crossing.WINDOW) -> None:
        crossing.check_rule(limit, window)
        self.limit, self.window = limit, window
        self._losses = LossLog()

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Average the records over the processes of the run."""
        self._losses.finish_block = partial(trainer.strategy.reduce, reduce_op="mean")  # type: ignore[assignment]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse a data set in which nothing varies."""
        crossing.check_size(len(data_of(trainer).dataset))

    def state_dict(self) -> dict[str, Any]:
        """The records so far."""
        return {"rows": self._losses.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue with the records of the checkpoint."""
        self._losses = LossLog(state_dict["rows"], self._losses.finish_block)

    def after_step(self, trainer: pl.Trainer, module: DEFT, stage: int | None) -> None:
        """Record the latest step; stop a test early when its beta_high is too low."""
        parts = module.last_loss.parts
        self._losses.append(parts["reconstruction"], parts["kl/latent"])
        if trainer.global_step == crossing.steps_to_check(module.timeline.length):
            self._check_beta_high(self._losses.curve(module.timeline))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find the thresholds; write thresholds.json, the figure (Fig. 3) and the summary."""
        module = as_deft(pl_module)
        if trainer.global_step < module.timeline.length:
            return
        curve = self._losses.curve(module.timeline)  # in all processes, which average the records together
        self._check_beta_high(curve)
        if trainer.is_global_zero:
            self._write(trainer, module, curve)

    def _check_beta_high(self, curve: crossing.Curve) -> None:
        crossing.check_beta_high(curve, float(curve.beta[0]), self.limit, self.window)

    def _write(self, trainer: pl.Trainer, module: DEFT, curve: crossing.Curve) -> None:
        data, folder = data_of(trainer), Path(trainer.default_root_dir)
        description = data.description
        settings = {
            "beta_high": float(curve.beta[0]),
            "steps": module.timeline.length,
            "batch_size": data.batch_size,
            "lr": module.lr,
            "likelihood": module.likelihood.label,
            "seed": module.seed,
            "limit": self.limit,
            "window": self.window,
        }
        try:
            variance = noise_variance(module.likelihood)
            eigenvalues = [
                float(f"{value:.4g}")
                for value in spectrum_of(data.dataset, noise_variance=variance, images=data.training_images).eigenvalues
            ]
        except DeftError:  # pixels or a likelihood that the spectrum does not describe
            eigenvalues = []
        outcome = crossing.outcome(curve, self.limit, self.window)
        content = {"kind": "anneal", "finished": True, "data": description, "settings": settings, **outcome}
        content["eigenvalues"] = eigenvalues
        record.write(folder, content)
        summary = {key: outcome[key] for key in ("threshold", "latent_thresholds")}
        results.update(folder, thresholds={"kind": "anneal", "file": record.FILE, **summary})
        if len(curve.step) > 1:  # one point is not a curve
            figure = anneal_figure(content, f"{description['name']}, seed {module.seed}")
            log_image(trainer, "thresholds/anneal", save_figure(figure, folder, "anneal"))
        for notice in outcome["notices"]:
            log.info(notice)

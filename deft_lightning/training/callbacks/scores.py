"""Scores at the end of every stage, on one fixed sample, kept in results.json."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from deft_lightning.common import results
from deft_lightning.data.datamodule import FactorDataModule
from deft_lightning.evaluation.codes import MIN_KL, reconstruction_errors
from deft_lightning.evaluation.scores import Settings
from deft_lightning.evaluation.sources import score_model
from deft_lightning.metrics import max_nmi, nmi
from deft_lightning.training.callbacks.base import log_numbers
from deft_lightning.training.callbacks.evaluation import EvaluationPart, Snapshot

log = logging.getLogger(__name__)

ADVICE = {
    "pressure": "lower the pressure; `python -m deft_lightning.thresholds` measures where information begins to pass",
    "capacity": "raise the capacity",
}
"""What to do when no latent passes information, by the quantity of the schedule."""
ADVICE_FALLING = "the pressure needs more steps to fall; train longer (schedule.epochs)"
"""The same under a schedule that lowers the pressure itself."""


class Scores(EvaluationPart):
    """Scores the model at every stage end (section 3.2) and keeps the scores in results.json.

    `settings` is the `metrics` part of a configuration, or an `evaluation.scores.Settings`. Reconstruction error and KL
    are always scored; without labels the metrics that need them are not. Raises `DeftError` for settings out of range.
    """

    def __init__(self, settings: Settings | Mapping[str, Any] | None = None) -> None:
        self.settings = settings if isinstance(settings, Settings) else Settings(**(settings or {}))

    def start(self, data: FactorDataModule) -> None:
        """Say once for the whole fit which scores are left out."""
        if not data.dataset.factor_names:
            log.info("The data have no labels: the scores that need them are skipped.")

    def evaluate(self, snapshot: Snapshot) -> None:
        """Score the evaluation sample; log the scores and keep them in results.json."""
        settings, encoding, module, data = self.settings, snapshot.encoding, snapshot.module, snapshot.data
        assert snapshot.stage is not None
        record: dict[str, Any] = {
            "step": snapshot.step,
            "pressure": snapshot.pressure,
            "scored_on": "all images" if data.split is None else "held-out images",
            "kl_per_latent": encoding.kl.tolist(),
        }
        if encoding.factors is not None and data.dataset.factor_names:
            names, matrix = data.dataset.factor_names, nmi(encoding.codes, encoding.factors, settings.bins)  # [D, K]
            record |= {
                "nmi": matrix.tolist(),
                "max1_nmi": dict(zip(names, max_nmi(matrix, 1).tolist(), strict=True)),
                "max2_nmi": dict(zip(names, max_nmi(matrix, 2).tolist(), strict=True)),
            }
        names_now = settings.names if snapshot.is_last else settings.stage_names
        scored = score_model(names_now, settings, encoding, module, data)
        errors = reconstruction_errors(module, data, encoding)
        scored.add_means(settings, reconstruction=errors, kl=encoding.kl_of_images())
        log_numbers(snapshot.trainer, {f"score/{key}": value for key, value in scored.scores.items()})
        stage = f"stage_{snapshot.stage + 1}"
        results.update(snapshot.folder, stages={stage: record | scored.record()})
        if encoding.kl.max() < MIN_KL:
            quantity = module.schedule.quantity
            log.warning(
                "Stage %d: no latent passes information at %s %g (every KL is below %g nats): %s.",
                snapshot.stage + 1,
                quantity,
                snapshot.pressure,
                MIN_KL,
                ADVICE_FALLING if module.schedule.falls else ADVICE[quantity],
            )

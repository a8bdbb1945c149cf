"""One evaluation pass: a fixed sample of images is encoded once, for everything that scores or draws it."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytorch_lightning as pl

from deft_lightning.common import results
from deft_lightning.common.errors import Diverged
from deft_lightning.data.datamodule import FactorDataModule
from deft_lightning.evaluation.codes import Encoding, encode
from deft_lightning.model.module import DEFT
from deft_lightning.training.callbacks.base import DEFTCallback, Phase, as_deft, data_of


@dataclass(frozen=True)
class Snapshot:
    """The model after a step, and the codes of the evaluation sample.

    `stage` is the index of the stage that the step has ended, None inside a stage. `pressure` is that of the step,
    `bins` the number of bins for a histogram of a latent.
    """

    trainer: pl.Trainer
    module: DEFT
    data: FactorDataModule
    encoding: Encoding
    bins: int
    stage: int | None

    @property
    def step(self) -> int:
        """Steps taken."""
        return int(self.trainer.global_step)

    @property
    def pressure(self) -> float:
        """The pressure, or the capacity, of the latest step."""
        return self.module.timeline.at(self.step - 1).pressure

    @property
    def is_last(self) -> bool:
        """Whether the last stage has ended."""
        return self.stage == self.module.schedule.stages - 1

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path(self.trainer.default_root_dir)


class EvaluationPart(ABC):
    """Something that is computed or drawn from a snapshot, by default at the end of every stage."""

    def due(self, module: DEFT, stage: int | None) -> bool:
        """Whether the part wants a snapshot after the latest step, which has ended `stage` if it is not None."""
        return stage is not None

    def start(self, data: FactorDataModule) -> None:  # noqa: B027  # most have nothing to prepare
        """Called once before training."""

    @abstractmethod
    def evaluate(self, snapshot: Snapshot) -> None:
        """Compute, log and write."""


class Evaluation(DEFTCallback):
    """Encodes `num_points` fixed images whenever one of `parts` is due, and passes the codes to those that are.

    `bins` is the number of bins a latent. Acts in the main process alone; the seconds that it takes are in
    results.json as `timings.evaluation_seconds`.
    """

    phase = Phase.EVALUATE

    def __init__(self, parts: Sequence[EvaluationPart], num_points: int = 10_000, bins: int = 20) -> None:
        self.parts, self.num_points, self.bins = list(parts), num_points, bins
        self._seconds = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Prepare the parts; the seconds of earlier sessions of the same run add up."""
        as_deft(pl_module)
        if trainer.is_global_zero:
            self._seconds = results.read(trainer.default_root_dir).get("timings", {}).get("evaluation_seconds", 0.0)
            for part in self.parts:
                part.start(data_of(trainer))

    def after_step(self, trainer: pl.Trainer, module: DEFT, stage: int | None) -> None:
        if not trainer.is_global_zero:
            return
        due = [part for part in self.parts if part.due(module, stage)]
        if not due:
            return
        begin = time.monotonic()
        data = data_of(trainer)
        indices = data.sample(min(self.num_points, data.scored_size))
        encoding = encode(module, data, indices)
        if not (np.isfinite(encoding.codes).all() and np.isfinite(encoding.kl).all()):
            # The loss is of the weights before the latest step, and may have been finite still.
            raise Diverged(
                f"the posteriors hold NaN or infinite values after step {trainer.global_step:,}: the run has stopped; "
                "lower lr, or look at the data."
            )
        snapshot = Snapshot(trainer, module, data, encoding, self.bins, stage)
        for part in due:
            part.evaluate(snapshot)
        self._seconds += time.monotonic() - begin
        results.update(trainer.default_root_dir, timings={"evaluation_seconds": round(self._seconds, 1)})

"""One run, from top to bottom: choices, folder, data, module, trainer, fit, summary."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger

from deft_lightning.common import memory, results
from deft_lightning.common.errors import DeftError
from deft_lightning.common.signals import stopping
from deft_lightning.data.base import FactorDataset
from deft_lightning.data.streaming import deaths_told
from deft_lightning.model.checkpoint import load_weights, read_checkpoint, require_description
from deft_lightning.model.description import class_name
from deft_lightning.model.module import DEFT
from deft_lightning.model.schedules.observed import ObservedTimeline
from deft_lightning.training import (
    build,
    config,
    distributed,
    loggers,
    precision,
    resolution,
    summary,
    wandb_server,
    warm_start,
)
from deft_lightning.training.callbacks.run_results import early_end
from deft_lightning.training.record import recorded, require_same_data

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Start:
    """Where a session of a run begins.

    `checkpoint` is None for fresh weights; `resumed` tells the run's own checkpoint from that of another run.
    """

    run_id: str
    checkpoint: Path | None
    first_step: int
    resumed: bool


def train(cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """Train what `cfg` describes in the run folder `folder`, and return its results.

    Raises `DeftError` for everything that a user can fix; results.json then holds the reason.
    """
    cfg = resolution.as_recorded(cfg, folder)
    choices = config.build_choices(cfg)
    warm_start.check(cfg)
    processes = distributed.processes(cfg)
    training = config.training_part(cfg, choices.schedule)
    # Once it trains, the callback Checkpoints handles the signals.
    with stopping("the run"), recorded(cfg, folder, training, choices.method(cfg.method)) as session:
        checkpoint = session.checkpoint or warm_start.checkpoint(cfg, train)
        first_step = 0 if checkpoint is None else int(read_checkpoint(checkpoint)["global_step"])
        start = Start(session.run_id, checkpoint, first_step, resumed=session.checkpoint is not None)
        if processes == 1:
            _fit(cfg, folder, choices, start)
        else:
            distributed.fit(_fit, processes, cfg, folder, choices, start)
    outcome = results.read(folder)
    summary.end(outcome, folder)
    return outcome


def _fit(cfg: DictConfig, folder: Path, choices: config.Choices, start: Start) -> None:
    """Data, module, trainer and fit, in each process of the run; the first of them writes."""
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    data = build.data_module(cfg)
    cfg = resolution.resolve(
        cfg, folder, lambda: resolution.first_eigenvalue(data.dataset, choices.likelihood, data.training_images)
    )
    choices = choices._replace(schedule=config.build(cfg, "schedule"))
    module = build.fresh_module(cfg, choices, data)
    choices.schedule.check(data.dataset.description, choices.likelihood.label)
    _check_start(module, data.dataset, folder, start)
    failed = True
    try:
        run_loggers: list[Logger] = []
        if distributed.is_main():
            boundaries = list(module.timeline.boundaries)
            results.update(folder, data=data.description, boundaries=boundaries)
            run_loggers = _loggers(cfg, folder, choices, data.dataset, start)
        recorded_precision = results.read(folder).get("precision") if start.resumed else None
        asked = cfg.trainer.get("precision", config.AUTO_PRECISION)
        resolved = precision.resolve(asked, cfg.trainer.get("accelerator", "auto"), recorded_precision)
        precision.check_clipping(resolved, cfg.trainer.get("gradient_clip_val"))
        trainer = build.trainer(cfg, folder, run_loggers, module.timeline.length, resolved)
        if trainer.strategy.root_device.type == "cpu":
            memory.retain_freed()  # otherwise every step pays page faults for its activations
        summary.start(cfg, module, data, trainer, folder, start.first_step)
        _fit_or_finish(trainer, module, data, start)
        failed = False
    finally:
        wandb_server.finish(failed)


def _check_start(module: DEFT, dataset: FactorDataset, folder: Path, start: Start) -> None:
    """Check the data and the checkpoint that the session begins with, before it trains or writes checkpoints."""
    if start.checkpoint is None:
        return
    load_weights(module, start.checkpoint)
    if start.resumed:
        require_same_data(folder, dataset)
        return
    require_same_data(start.checkpoint.parent.parent, dataset)
    end = module.timeline.length
    if start.first_step >= end:
        raise DeftError(
            f"{start.checkpoint} is at step {start.first_step:,} and the schedule ends at {end:,}: there is nothing "
            "left to train; lengthen the schedule."
        )
    _check_observed(module, start.checkpoint)


def _check_observed(module: DEFT, path: Path) -> None:
    """Raise `DeftError` for a schedule that follows the training and cannot go on from what another one has seen."""
    saved = require_description(read_checkpoint(path), path)
    observed, kind = saved.get("observed"), saved["parts"]["schedule"]["class"]
    timeline = module.schedule.timeline(module.steps_per_epoch)
    if observed is None and not isinstance(timeline, ObservedTimeline):
        return
    if kind != class_name(type(module.schedule)):
        raise DeftError(
            f"{path} was trained under the schedule {kind.rpartition('.')[2]}, and this run has another: a schedule "
            "that follows the training goes on from its own kind only."
        )
    if observed is not None and isinstance(timeline, ObservedTimeline):
        timeline.state = observed
        if timeline.finished:
            raise DeftError(
                f"all stages of {path} have ended: there is nothing left to train; start from an earlier one."
            )


def _loggers(
    cfg: DictConfig, folder: Path, choices: config.Choices, dataset: FactorDataset, start: Start
) -> list[Logger]:
    resolved = {key: config.to_plain(cfg, key) for key in map(str, cfg)}
    # W&B groups runs by these two
    resolved |= {"method": choices.method(cfg.method).label, "data_set": f"{dataset.name}, {dataset.source}"}
    chosen = config.to_plain(cfg, "logger")
    return loggers.make_loggers(folder, chosen, folder.name, start.run_id, resolved, start.first_step)


@contextmanager
def _interrupts_raised() -> Iterator[None]:
    """Raise the `KeyboardInterrupt` of a second Ctrl-C, which Lightning turns into an exit that gives no reason."""
    try:
        yield
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):
            raise stop.__context__ from None
        raise


def _fit_or_finish(trainer: pl.Trainer, module: DEFT, data: pl.LightningDataModule, start: Start) -> None:
    """Train to the end of the schedule; raises `Incomplete` where the trainer stops before."""
    nothing_left = start.first_step == module.timeline.length
    with deaths_told(), _interrupts_raised():
        trainer.fit(module, data, ckpt_path=start.checkpoint, weights_only=True)
    if nothing_left:
        # The run was killed after its last step: `fit` returns without calling any hook, so they are called here.
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            callback.on_train_start(trainer, module)
            callback.on_train_end(trainer, module)
    if end := early_end(trainer, module):
        raise end

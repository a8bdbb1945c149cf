"""One run, read top to bottom: seed, data, module, trainer, fit, scores, results.json."""

from __future__ import annotations

import gc
import logging
import uuid
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger

from deft_lightning.common import memory, results
from deft_lightning.common.errors import DeftError
from deft_lightning.model.checkpoint import read_checkpoint
from deft_lightning.model.module import DEFT
from deft_lightning.training import build, config, distributed, loggers, record, run_folder, summary, warm_start

log = logging.getLogger(__name__)


def train(cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """Train what `cfg` says in the run folder `folder`, and return its results.

    Raises `DeftError` for everything a user can mend; results.json then holds the reason.
    """
    choices = config.check(cfg)
    warm_start.check_trunk(cfg)
    processes = distributed.processes(cfg)
    training = config.training_part(cfg, choices.schedule)
    own = run_folder.claim(folder, training, resume=bool(cfg.resume))
    if own is not None:
        read_checkpoint(own)  # a damaged one is refused before anything is written
    run_folder.write_config(folder, cfg)
    run_id = results.read(folder).get("run_id") or uuid.uuid4().hex[:8]
    results.update(folder, **record.header(cfg, training, run_id, cfg.method or choices.method))
    try:
        checkpoint = own or warm_start.starting_point(cfg, train)
        if processes == 1:
            _fit(cfg, folder, checkpoint, run_id, own is not None)
        else:
            distributed.fit(_fit, processes, cfg, folder, checkpoint, run_id, own is not None)
    except BaseException as error:
        record.record_failure(folder, error)
        raise
    finally:
        gc.collect()  # trainer and module refer to each other, and to the data: a sweep's next job loads its own
        memory.give_back()
    outcome = results.read(folder)
    summary.end(outcome, folder)
    return outcome


def _fit(cfg: DictConfig, folder: Path, checkpoint: Path | None, run_id: str, resumed: bool) -> None:
    """Data, module, trainer and fit, in each process of the run; the first of them writes."""
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    failed, main = True, distributed.is_main()
    try:
        first_step = 0 if checkpoint is None else int(read_checkpoint(checkpoint)["global_step"])
        choices = config.check(cfg)
        module, data = build.build(cfg, choices)
        dataset = data.dataset
        choices.schedule.check(dataset.description)
        record.check_same_pixels(folder, dataset, resumed)
        if checkpoint is not None:
            build.load_weights(module, checkpoint)
            if not resumed:
                _check_something_is_left(module, checkpoint, first_step)
            record.check_same_pixels(checkpoint.parent.parent, dataset, resumed=not resumed)
        run_loggers: list[Logger] = []
        if main:
            results.update(folder, data=dataset.description, boundaries=list(module.boundaries))
            wandb = config.to_plain(cfg, "logger")["wandb"]
            resolved = {key: config.to_plain(cfg, key) for key in map(str, cfg)}
            method = cfg.method or choices.method
            resolved |= {"method": method, "data_set": f"{dataset.name}, {dataset.source}"}  # W&B groups runs by these
            run_loggers = loggers.make_loggers(folder, wandb, folder.name, run_id, resolved, first_step)
        trainer = _trainer(cfg, folder, run_loggers, module.boundaries[-1])
        summary.start(cfg, module, dataset, trainer, folder, first_step)
        nothing_left = first_step == module.boundaries[-1]
        trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
        if nothing_left:  # killed after its last step, of which Lightning has nothing to say
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                callback.on_train_start(trainer, module)
                callback.on_train_end(trainer, module)
        failed = False
    finally:
        loggers.finish_wandb(failed)


def _check_something_is_left(module: DEFT, checkpoint: Path, first_step: int) -> None:
    end = module.boundaries[-1]
    if first_step >= end:
        raise DeftError(
            f"{checkpoint} is at step {first_step:,} and the schedule ends at {end:,}: there is nothing left to train; "
            "lengthen the schedule."
        )


def _trainer(cfg: DictConfig, folder: Path, run_loggers: list[Any], max_steps: int) -> pl.Trainer:
    callbacks = [config.build(cfg.callbacks, name) for name in cfg.callbacks]
    return config.build(
        cfg,
        "trainer",
        default_root_dir=str(folder),
        callbacks=callbacks,
        logger=run_loggers,
        max_steps=max_steps,
        max_epochs=-1,
        enable_checkpointing=True,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )

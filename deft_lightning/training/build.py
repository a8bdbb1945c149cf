"""Module, data, callbacks and trainer of a run, from its configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig
from pytorch_lightning.callbacks import ProgressBar

from deft_lightning.data.base import FactorDataset
from deft_lightning.data.datamodule import FactorDataModule
from deft_lightning.model.checkpoint import load_weights
from deft_lightning.model.module import DEFT
from deft_lightning.training import config, distributed
from deft_lightning.training import precision as precisions
from deft_lightning.training.callbacks import DEFTCallback, Evaluation, EvaluationPart


def data_module(cfg: DictConfig, dataset: FactorDataset | None = None) -> FactorDataModule:
    """The data; `dataset`, where it is loaded already, is not loaded again."""
    dataset = config.dataset(cfg) if dataset is None else dataset
    return FactorDataModule(dataset, **config.data_module_options(cfg))


def fresh_module(cfg: DictConfig, choices: config.Choices, data: FactorDataModule) -> DEFT:
    """The module with fresh weights."""
    return DEFT(
        **choices._asdict(),
        image_shape=data.dataset.shape,
        lr=cfg.lr,
        seed=cfg.seed,
        steps_per_epoch=data.training_size // cfg.batch_size,
        compiled=cfg.compile and distributed.processes(cfg) == 1,  # what objectives gather does not compile
    )


def trained_module_and_data(
    cfg: DictConfig, checkpoint: Path, dataset: FactorDataset | None = None
) -> tuple[DEFT, FactorDataModule]:
    """The module with the weights of `checkpoint`, in eval mode, and the data of a run with configuration `cfg`.

    Raises `DeftError` when the checkpoint is damaged or of another model.
    """
    data = data_module(cfg, dataset)
    module = fresh_module(cfg, config.build_choices(cfg), data)
    load_weights(module, checkpoint)
    return module.eval(), data


def trainer(cfg: DictConfig, folder: Path, loggers: list[Any], max_steps: int, precision: str) -> pl.Trainer:
    """The trainer of `cfg`, which writes to `folder` and stops after `max_steps`; `precision` is never "auto".

    What is set here and in `cfg.trainer` must be refused there, see `training.trainer_fields`.
    """
    acting = callbacks(cfg)
    if not cfg.trainer.get("enable_progress_bar", True):
        acting = [callback for callback in acting if not isinstance(callback, ProgressBar)]
    return config.build(
        cfg,
        "trainer",
        **precisions.options(precision, cfg.trainer.get("plugins")),
        default_root_dir=str(folder),
        callbacks=acting,
        enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in acting),  # else Lightning adds one
        logger=loggers,
        max_steps=max_steps,
        max_epochs=-1,
        enable_checkpointing=True,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,  # the callback HeldOut acts at steps of the schedule, also those of a resumed run
    )


def callbacks(cfg: DictConfig) -> list[pl.Callback]:
    """The callbacks of `cfg`, in the order in which they act after a step; parts of the evaluation share one pass."""
    entries = [config.build(cfg.callbacks, name) for name in cfg.callbacks if cfg.callbacks[name] is not None]
    parts = [entry for entry in entries if isinstance(entry, EvaluationPart)]
    others: list[pl.Callback] = [entry for entry in entries if not isinstance(entry, EvaluationPart)]
    if parts:
        others.append(Evaluation(parts, cfg.metrics.num_points, cfg.metrics.bins))
    return sorted(others, key=lambda callback: getattr(callback, "phase", DEFTCallback.phase))

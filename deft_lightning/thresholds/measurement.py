"""What the measurements of several anneal tests share: their settings, their run folder, and how a signal ends them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf, open_dict

from deft_lightning.common import checks, results
from deft_lightning.common.errors import DeftError
from deft_lightning.common.results import Status
from deft_lightning.common.signals import stopping
from deft_lightning.data.base import FactorDataset
from deft_lightning.model.schedules.anneal import Anneal
from deft_lightning.thresholds.crossing import check_rule, check_size
from deft_lightning.training import config
from deft_lightning.training.measures import Measures
from deft_lightning.training.record import recorded, require_same_data


def pop_counts(cfg: DictConfig, *fields: str) -> tuple[DictConfig, dict[str, int]]:
    """`cfg` without the `fields` that only this measurement has, and their values.

    Raises `DeftError` for a value that is not a whole number from 1 up.
    """
    rest = cfg.copy()
    counts = {}
    for field in fields:
        counts[field] = checks.whole(field, cfg[field], 1)
        with open_dict(rest):
            del rest[field]
    return rest, counts


@contextmanager
def measurement(cfg: DictConfig, folder: Path, counts: dict[str, int], rule: dict[str, Any]) -> Iterator[FactorDataset]:
    """Load the data set for the block, and keep results.json up to date.

    `counts` and `rule`, see `pop_counts` and `anneal_rule`, are recorded with the settings of a run: a
    measurement is resumed only with the same. Raises `DeftError` for a folder or data that it cannot use, `Interrupted`
    when a signal asks it to stop, and whatever the block raises.
    """
    choices = config.build_choices(cfg)
    training = config.training_part(cfg, choices.schedule) | counts | {"anneal_recorder": rule}
    whole = OmegaConf.create({str(key): cfg[key] for key in cfg} | counts)
    method = choices.method(cfg.method)
    with stopping("the measurement"), recorded(cfg, folder, training, method, whole), _measured(folder):
        if cfg.threads is not None:
            torch.set_num_threads(cfg.threads)
        dataset = config.dataset(cfg)
        check_size(len(dataset))
        if cfg.resume:
            require_same_data(folder, dataset)
        results.update(folder, status=Status.RUNNING, data=dataset.description)
        yield dataset


@contextmanager
def _measured(folder: Path) -> Iterator[None]:
    """Write how long the block takes and the memory it needs; earlier sessions add up."""
    measures = Measures(folder)
    try:
        yield
    finally:
        measures.write()


def anneal_schedule(cfg: DictConfig) -> Anneal:
    """The schedule of `cfg`; raises `DeftError` when it is not that of the anneal test."""
    schedule = config.build_choices(cfg).schedule
    if not isinstance(schedule, Anneal):
        raise DeftError("thresholds are measured with the anneal test: use schedule=anneal.")
    return schedule


def anneal_rule(cfg: DictConfig) -> dict[str, Any]:
    """The limit and window of a threshold. Raises `DeftError` when the recorder is missing or a field out of range."""
    recorder = OmegaConf.select(cfg, "callbacks.anneal_recorder")
    if recorder is None:
        raise DeftError("callbacks.anneal_recorder is missing: keep it, its limit and window define a threshold.")
    check_rule(recorder.limit, recorder.window)
    return {"limit": recorder.limit, "window": recorder.window}


def anneal_settings(cfg: DictConfig, schedule: Anneal) -> dict[str, Any]:
    """`settings` of thresholds.json, for a schedule whose beta_high is known."""
    return {
        "beta_high": schedule.beta_high,
        "steps": schedule.length,
        "batch_size": cfg.batch_size,
        "lr": cfg.lr,
        "likelihood": config.build_choices(cfg).likelihood.label,
        **anneal_rule(cfg),
    }

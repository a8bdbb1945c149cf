"""The frame of a measurement that is more than one run: its folder, its record in results.json, its resuming."""

from __future__ import annotations

import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf, open_dict

from deft_lightning.common import memory, results
from deft_lightning.common.errors import DeftError, Interrupted
from deft_lightning.data.base import FactorDataset
from deft_lightning.model.schedules.anneal import Anneal
from deft_lightning.thresholds.crossing import check_rule, check_size
from deft_lightning.training import config, record, run_folder


def take_counts(cfg: DictConfig, *fields: str) -> tuple[DictConfig, dict[str, int]]:
    """`cfg` without the `fields` that only a measurement has, and these: whole numbers above 0.

    Raises `DeftError` for other values.
    """
    plain = cfg.copy()
    counts = {}
    for field in fields:
        value = cfg[field]
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise DeftError(f"{field} is {value!r}: give a whole number above 0.")
        counts[field] = value
        with open_dict(plain):
            del plain[field]
    return plain, counts


@contextmanager
def measurement(cfg: DictConfig, folder: Path, counts: dict[str, int], rule: dict[str, Any]) -> Iterator[FactorDataset]:
    """Claim the folder, keep results.json while the block runs, and give it the data set.

    `counts` and `rule`, see `take_counts` and `settings`, decide the outcome beside what a run's configuration does; a
    measurement is only resumed with the same.
    """
    decisive = {"rule": rule | {"log_every_n_steps": cfg.trainer.log_every_n_steps}}
    choices = config.check(cfg)
    training = config.training_part(cfg, choices.schedule) | counts | decisive
    run_folder.claim(folder, training, resume=bool(cfg.resume))
    known = results.read(folder)
    whole = OmegaConf.create({str(key): cfg[key] for key in cfg} | counts)
    run_folder.write_config(folder, whole)
    run_id = known.get("run_id") or uuid.uuid4().hex[:8]
    results.update(folder, **record.header(cfg, training, run_id, cfg.method or choices.method))
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    terminate = signal.signal(signal.SIGTERM, _interrupt)
    begin, before = time.monotonic(), known.get("timings", {}).get("train_seconds", 0.0)
    try:
        dataset: FactorDataset = config.build(cfg, "data")
        check_size(len(dataset))
        record.check_same_pixels(folder, dataset, resumed=bool(known))
        results.update(folder, status="running", data=dataset.description)
        yield dataset
    except BaseException as error:
        record.record_failure(folder, error)
        raise
    finally:
        signal.signal(signal.SIGTERM, terminate)
        memory.give_back()
        results.update(folder, timings={"train_seconds": round(before + time.monotonic() - begin, 1)})
    results.update(folder, status="finished")


def _interrupt(number: int, frame: FrameType | None) -> None:
    name = signal.Signals(number).name
    raise Interrupted(f"the measurement was stopped by {name}: resume=true goes on with it.", number)


def anneal_of(cfg: DictConfig) -> Anneal:
    """The schedule of `cfg`, which must be an anneal test's; raises `DeftError` for another."""
    schedule = config.check(cfg).schedule
    if not isinstance(schedule, Anneal):
        raise DeftError("thresholds are measured by the anneal test: leave schedule=anneal as it is.")
    return schedule


def settings(cfg: DictConfig, schedule: Anneal) -> dict[str, Any]:
    """`settings` of thresholds.json, with the recorder's rule. Raises `DeftError` where that has been taken out."""
    recorder = OmegaConf.select(cfg, "callbacks.anneal_recorder")
    if recorder is None:
        raise DeftError("callbacks.anneal_recorder is missing, and its limit and window are needed: leave it in.")
    check_rule(recorder.limit, recorder.window)
    every = cfg.trainer.log_every_n_steps
    if not isinstance(every, int) or isinstance(every, bool) or not 0 < every <= schedule.length:
        raise DeftError(
            f"trainer.log_every_n_steps is {every!r}: give a whole number from 1 to the {schedule.length} steps of the "
            "test, which records what is logged."
        )
    return {
        "beta_high": schedule.beta_high,
        "steps": schedule.length,
        "batch_size": cfg.batch_size,
        "lr": cfg.lr,
        "limit": recorder.limit,
        "window": recorder.window,
    }

"""Train several populations of anneal tests at the same time, record their losses, and save them for resuming.

On a CPU it is faster to train one population per core, each on one thread, than one population on all cores: small
layers leave cores waiting for each other.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from itertools import pairwise
from pathlib import Path
from threading import Event

import torch
from torch import Tensor

from deft_lightning.common import files, subnormals
from deft_lightning.common.errors import DeftError, Diverged
from deft_lightning.data.datamodule import FactorDataModule
from deft_lightning.model.module import DEFT
from deft_lightning.thresholds.crossing import Curve, steps_to_check
from deft_lightning.thresholds.loss_log import LossLog
from deft_lightning.thresholds.members import Members, Separate
from deft_lightning.thresholds.population import Population

log = logging.getLogger(__name__)

SAVE_SECONDS = 60.0
"""Time between two checkpoints of a population: at most so much is lost when the measurement is killed."""


def divide(modules: Sequence[DEFT], data: Sequence[FactorDataModule], device: torch.device | str) -> list[Members]:
    """The members in as many populations as `anneal` trains fastest: one per core of a CPU, one for a GPU.

    Members that cannot be stacked take their steps one after another.
    """
    cores = torch.get_num_threads() if torch.device(device).type == "cpu" else 1
    count = min(len(modules), cores)
    ends = [len(modules) * k // count for k in range(count + 1)]
    kind: type[Members] = Population if Population.takes(modules) else Separate
    return [kind(modules[a:b], data[a:b], device) for a, b in pairwise(ends)]


def anneal(
    populations: Sequence[Members],
    steps: int,
    progress: Callable[[int], object],
    folder: Path | None = None,
    check: Callable[[Curve], object] | None = None,
) -> list[Curve]:
    """Train all populations up to `steps`, each in its own thread; returns the curve of every member, in order.

    `progress` is called with the number of steps just taken or restored, summed over members. With a `folder`, each
    population is saved there every `SAVE_SECONDS` and when it stops, and continues from a file there with the same
    seeds. `check` is called with the curve of each member once `steps_to_check` of its steps are taken. What it raises
    ends all populations, as does any interruption and a loss that is not finite, which raises `Diverged`.
    """
    threads, stop = torch.get_num_threads(), Event()
    share = max(1, threads // len(populations))
    paths = [None if folder is None else folder / f"population_{number + 1}.ckpt" for number in range(len(populations))]
    try:
        pool = ThreadPoolExecutor(len(populations), initializer=torch.set_num_threads, initargs=(share,))
        with subnormals.flushed(), pool:
            try:
                tasks = [
                    pool.submit(_anneal, population, steps, progress, check, stop, path)
                    for population, path in zip(populations, paths, strict=True)
                ]
                for task in wait(tasks, return_when=FIRST_EXCEPTION).done:
                    task.result()  # raises the exception of a thread
            finally:
                stop.set()
            return [curve for task in tasks for curve in task.result()]
    finally:
        torch.set_num_threads(threads)


def _anneal(
    population: Members,
    steps: int,
    progress: Callable[[int], object],
    check: Callable[[Curve], object] | None,
    stop: Event,
    path: Path | None,
) -> list[Curve]:
    """Train one population until `steps` or `stop`; returns no curves when it was stopped."""
    losses = LossLog(_restore(population, path), lambda block: _check_finite(block, population.step_count))
    progress(len(population) * population.step_count)
    saved = time.monotonic()
    while population.step_count < steps and not stop.is_set():
        losses.append(*population.step())
        progress(len(population))
        if check is not None and population.step_count == steps_to_check(steps):
            for curve in _curves(population, losses):
                check(curve)
        if path is not None and time.monotonic() - saved > SAVE_SECONDS:
            _save(population, losses, path)
            saved = time.monotonic()
    if path is not None and population.step_count:
        try:
            _save(population, losses, path)
        except DeftError as error:
            if stop.is_set():  # the interruption is raised instead of this error
                log.error("%s", error)
            raise
    return _curves(population, losses) if population.step_count >= steps else []


def _curves(population: Members, losses: LossLog) -> list[Curve]:
    return [losses.curve(population.timeline, member) for member in range(len(population))]


def _check_finite(block: Tensor, last_step: int) -> Tensor:
    """`block` [n, M, 1 + D], the losses of n steps; raises `Diverged` when one of them is not finite."""
    finite = torch.isfinite(block).flatten(1).all(dim=1)
    if not bool(finite.all()):
        step = last_step - len(block) + 1 + int(finite.int().argmin())
        raise Diverged(f"the loss is not finite at step {step:,}: lower lr, or look at the data.")
    return block


def _save(population: Members, losses: LossLog, path: Path) -> None:
    """Write a checkpoint whole or not at all; raises `DeftError` when it cannot be written."""
    state = {"seeds": population.seeds, "rows": losses.rows, "population": population.state_dict()}
    try:
        with files.replaced(path) as temporary:
            torch.save(state, temporary)
    except (OSError, RuntimeError) as error:  # torch raises RuntimeError for a full disk
        raise DeftError(f"the checkpoint {path} cannot be written ({error}): make room, then resume.") from error


def _restore(population: Members, path: Path | None) -> Tensor | None:
    """Load the checkpoint into `population`; returns the losses saved with it, None where there is no checkpoint."""
    if path is None or not path.exists():
        return None
    try:
        saved = torch.load(path, map_location=population.device, weights_only=True)
    except Exception as error:  # torch raises many types for a truncated file
        log.warning("%s is damaged (%s): its subsets start from scratch.", path, type(error).__name__)
        return None
    if saved["seeds"] != population.seeds:  # usually a population that is finished
        if set(saved["seeds"]) & set(population.seeds):
            log.warning("%s was saved with another number of threads: its subsets start from scratch.", path)
        return None
    population.load_state_dict(saved["population"])
    return saved["rows"]

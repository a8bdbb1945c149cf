"""Populations of anneal tests trained side by side, recorded, and saved so that a stopped measurement goes on.

On a CPU a population for each core, every one on a single thread, is faster than one population on all cores: small
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

import numpy as np
import torch
from torch import Tensor

from deft_lightning.common import files, memory
from deft_lightning.common.errors import DeftError, Diverged
from deft_lightning.data.datamodule import FactorDataModule
from deft_lightning.model.module import DEFT
from deft_lightning.thresholds.crossing import Curve
from deft_lightning.thresholds.population import Population

log = logging.getLogger(__name__)

SAVE_SECONDS = 60.0
"""How often a population under way is saved: what a killed measurement loses at most."""


def divide(modules: Sequence[DEFT], data: Sequence[FactorDataModule], device: torch.device | str) -> list[Population]:
    """The members as `anneal` trains them fastest: one population for each core of a CPU, one for a GPU."""
    cores = torch.get_num_threads() if torch.device(device).type == "cpu" else 1
    count = min(len(modules), cores)
    ends = [len(modules) * k // count for k in range(count + 1)]
    return [Population(modules[a:b], data[a:b], device) for a, b in pairwise(ends)]


def anneal(
    populations: Sequence[Population],
    steps: int,
    progress: Callable[[int], object],
    folder: Path | None = None,
) -> list[Curve]:
    """Train up to `steps`, recording all of them; one curve for each member of every population, in order.

    Each population has a thread of its own, and in it its share of torch's threads. `progress` is called with the
    number of steps just taken, or restored, counted for every member. With a `folder` each population is saved there
    every `SAVE_SECONDS` and when it is stopped, and continues from what one of the same seeds has left there. Raises
    `DeftError` when a loss is no longer finite; that, as any interruption, ends all populations.
    """
    if populations[0].device.type == "cpu":
        memory.retain_freed()
    threads, stop = torch.get_num_threads(), Event()
    share = max(1, threads // len(populations))
    files = [None if folder is None else folder / f"population_{place + 1}.ckpt" for place in range(len(populations))]
    try:
        with ThreadPoolExecutor(len(populations), initializer=torch.set_num_threads, initargs=(share,)) as pool:
            try:
                tasks = [
                    pool.submit(_anneal, population, steps, progress, stop, file)
                    for population, file in zip(populations, files, strict=True)
                ]
                for task in wait(tasks, return_when=FIRST_EXCEPTION).done:
                    task.result()  # raises what ended it
            finally:
                stop.set()
            return [curve for task in tasks for curve in task.result()]
    finally:
        torch.set_num_threads(threads)


def _anneal(
    population: Population,
    steps: int,
    progress: Callable[[int], object],
    stop: Event,
    file: Path | None,
) -> list[Curve]:
    rows = _restored(population, file)  # [M, 1 + D] each
    progress(len(population) * population.step_count)
    saved = time.monotonic()
    while population.step_count < steps and not stop.is_set():
        parts = population.step()
        progress(len(population))
        row = torch.cat([parts.reconstruction.unsqueeze(1), parts.kl], dim=1)
        if not bool(torch.isfinite(row).all()):
            raise Diverged(
                f"a loss is no longer finite at step {population.step_count:,}: lower lr, or look at the data."
            )
        rows.append(row.cpu())
        if file is not None and time.monotonic() - saved > SAVE_SECONDS:
            _save(population, rows, file)
            saved = time.monotonic()
    if file is not None and rows:
        try:
            _save(population, rows, file)
        except DeftError as error:
            if stop.is_set():  # then the interruption is what is raised
                log.error("%s", error)
            raise
    if population.step_count < steps:
        return []
    counts = np.arange(1, steps + 1)
    betas = np.array([population.timeline.at(int(count) - 1).pressure for count in counts])
    table = torch.stack(rows).double().numpy()  # [n, M, 1 + D]
    return [Curve(counts, betas, table[:, m, 0], table[:, m, 1:]) for m in range(len(population))]


def _save(population: Population, rows: list[Tensor], file: Path) -> None:
    """Write the file whole or not at all; raises `DeftError` where it cannot be."""
    state = {"seeds": population.seeds, "rows": torch.stack(rows), "population": population.state_dict()}
    try:
        with files.replaced(file) as temporary:
            torch.save(state, temporary)
    except (OSError, RuntimeError) as error:  # torch raises RuntimeError for a full disk
        raise DeftError(f"the checkpoint {file} cannot be written ({error}): make room, then resume.") from error


def _restored(population: Population, file: Path | None) -> list[Tensor]:
    """Set `population` to where it was saved, if it was; what had been recorded by then."""
    if file is None or not file.exists():
        return []
    try:
        saved = torch.load(file, map_location=population.device, weights_only=True)
    except Exception as error:  # torch raises many types for a file that is cut short
        log.warning("%s is damaged (%s): these subsets begin anew.", file, type(error).__name__)
        return []
    if saved["seeds"] != population.seeds:  # an earlier population's, as a rule
        if set(saved["seeds"]) & set(population.seeds):
            log.warning("%s is of another number of threads: the subsets under way begin anew.", file)
        return []
    population.load_state_dict(saved["population"])
    return list(saved["rows"].cpu())

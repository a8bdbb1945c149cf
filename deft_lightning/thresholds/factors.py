"""Thresholds of single factors (Fig. 6): the anneal test on many subsets in which one factor varies (section 6.1)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from deft_lightning.common import memory, results
from deft_lightning.common.console import new_progress
from deft_lightning.common.errors import DeftError
from deft_lightning.common.seeding import Stream, derive_seed
from deft_lightning.data.base import FactorDataset
from deft_lightning.data.datamodule import FactorDataModule
from deft_lightning.data.factors import FactorSpace
from deft_lightning.model.likelihoods import Likelihood
from deft_lightning.model.module import DEFT
from deft_lightning.model.schedules.anneal import Anneal
from deft_lightning.report.figures.thresholds import factors_figure
from deft_lightning.thresholds import record
from deft_lightning.thresholds.crossing import Curve, check_beta_high
from deft_lightning.thresholds.measurement import (
    anneal_rule,
    anneal_schedule,
    anneal_settings,
    measurement,
    pop_counts,
)
from deft_lightning.thresholds.members import Members
from deft_lightning.thresholds.populations import anneal, divide
from deft_lightning.thresholds.subsets import Subset, varying
from deft_lightning.training import config, resolution
from deft_lightning.training.figures import save_figure


def measure(cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """Measure `repeats` thresholds of every factor, `population` subsets at a time; writes thresholds.json and Fig. 6.

    All subsets have the same schedule. Where its beta_high is null, it follows from the largest of their first
    eigenvalues.

    A subset is a random image and all images that differ from it in one factor only. Its batches are the whole subset,
    or `batch_size` images of a larger one. (Batches of 64 drawn from it with replacement would have the same mean
    gradient, but with more noise and at a higher cost.)

    thresholds.json is written after every population. A resumed measurement keeps those thresholds, continues the
    population that was stopped from its checkpoint, and ends with the same result. Returns the content of
    thresholds.json. Raises `DeftError` for data without a full grid of labels, and for a beta_high that is too low.
    """
    cfg, counts = pop_counts(cfg, "repeats", "population")
    cfg = resolution.as_recorded(cfg, folder)
    anneal_schedule(cfg)
    if held_out := cfg.data.get("held_out"):
        raise DeftError(f"data.held_out is {held_out}: give 0, since subsets of single factors take all images.")
    rule = anneal_rule(cfg)
    checkpoints = folder / "checkpoints"

    def check(curve: Curve) -> None:
        check_beta_high(curve, settings["beta_high"], **rule)

    def threshold(curve: Curve) -> float | None:
        check(curve)
        index = curve.crossing(**rule)
        return None if index is None else float(curve.beta[index])

    with measurement(cfg, folder, counts, rule) as dataset:
        space = _full_grid(dataset)
        names = [name for name, size in zip(space.factor_names, space.factor_sizes, strict=True) if size > 1]
        likelihood = config.build_choices(cfg).likelihood
        cfg = resolution.resolve(
            cfg, folder, lambda: _largest_eigenvalue(dataset, space, names, counts["repeats"], cfg.seed, likelihood)
        )
        schedule = anneal_schedule(cfg)
        settings = anneal_settings(cfg, schedule)
        thresholds = _previous_thresholds(folder) or {name: [] for name in names}
        content = {
            "kind": "factors",
            "finished": False,
            "data": dataset.description,
            "settings": settings,
            "notices": [],
            "factors": thresholds,
            "images": {name: space.sizes[space.names.index(name)] for name in names},
            "repeats": counts["repeats"],
            "pressures": _experiment_pressures(cfg),
        }
        device = config.build(cfg, "trainer", logger=False, enable_checkpointing=False).strategy.root_device
        if device.type == "cpu":
            memory.retain_freed()
        with new_progress(unit="steps") as progress:
            completed = sum(map(len, thresholds.values())) * schedule.length
            task = progress.add_task("", total=counts["repeats"] * len(names) * schedule.length, completed=completed)
            for name in names:
                while (first := len(thresholds[name])) < counts["repeats"]:
                    members = range(first, min(first + counts["population"], counts["repeats"]))
                    progress.update(task, description=f"{name}, subsets {first + 1} to {members[-1] + 1}")
                    populations = _populations(cfg, dataset, space, name, members, schedule, device)
                    curves = anneal(
                        populations, schedule.length, lambda steps: progress.advance(task, steps), checkpoints, check
                    )
                    thresholds[name] += [threshold(curve) for curve in curves]
                    record.write(folder, content)
        for path in checkpoints.glob("*population_*"):
            path.unlink()
        content |= {"finished": True, "notices": _notices(thresholds, settings["limit"])}
        record.write(folder, content)
        save_figure(factors_figure({_title(content): content}), folder, "factors")
        results.update(folder, thresholds={"kind": "factors", "file": record.FILE, "factors": thresholds})
    return content


def _full_grid(dataset: FactorDataset) -> FactorSpace:
    if dataset.space is None:
        raise DeftError(
            f"{dataset.name} has no labels on a full grid, which are needed to vary one factor at a time: measure the "
            "thresholds of all images together, without the word factors."
        )
    return dataset.space


def _populations(
    cfg: DictConfig,
    dataset: FactorDataset,
    space: FactorSpace,
    factor: str,
    members: range,
    schedule: Anneal,
    device: torch.device,
) -> list[Members]:
    """The subsets of `factor` with the numbers `members`; which images they hold is a function of (seed, number)."""
    modules, data = [], []
    choices = config.build_choices(cfg)
    for member in members:
        subset = _subset(dataset, space, factor, member, cfg.seed)
        batch_size = min(cfg.batch_size, len(subset))
        seed = derive_seed(cfg.seed, Stream.SUBSET, space.names.index(factor), member, 1)
        data.append(FactorDataModule(subset, batch_size, seed))
        modules.append(
            DEFT(
                choices.groups,
                schedule,
                choices.objective,
                choices.networks,
                likelihood=copy.deepcopy(choices.likelihood),  # each learns its own sigma
                optimizer=choices.optimizer,
                image_shape=dataset.shape,
                lr=cfg.lr,
                seed=seed,
                steps_per_epoch=len(subset) // batch_size,
            )
        )
    return divide(modules, data, device)


def _subset(dataset: FactorDataset, space: FactorSpace, factor: str, member: int, seed: int) -> Subset:
    index = derive_seed(seed, Stream.SUBSET, space.names.index(factor), member, 0) % len(dataset)
    return Subset(dataset, varying(space, index, factor))


def _largest_eigenvalue(
    dataset: FactorDataset,
    space: FactorSpace,
    factors: Sequence[str],
    repeats: int,
    seed: int,
    likelihood: Likelihood,
) -> float:
    """The largest first eigenvalue of all subsets; raises `DeftError` when the images of every subset are the same."""
    largest, refusal = 0.0, None
    with new_progress(unit="subsets") as progress:
        subsets = [(factor, member) for factor in factors for member in range(repeats)]
        for factor, member in progress.track(subsets, description="first eigenvalues"):
            try:
                subset = _subset(dataset, space, factor, member, seed)
                largest = max(largest, resolution.first_eigenvalue(subset, likelihood))
            except DeftError as error:
                refusal = error
    if not largest and refusal is not None:
        raise refusal
    return largest


def _previous_thresholds(folder: Path) -> dict[str, list[float | None]] | None:
    """The thresholds that an earlier session has measured; None where there are none."""
    if not (folder / record.FILE).exists():
        return None
    return record.read(folder, "factors", finished=False)["factors"]


def _experiment_pressures(cfg: DictConfig) -> list[float] | None:
    """The pressures of the experiment's own schedule: for the paper's data those of Table 1."""
    pressures = OmegaConf.select(cfg, "schedule.pressures")
    return None if pressures is None else list(pressures)


def _notices(thresholds: dict[str, list[float | None]], limit: float) -> list[str]:
    return [
        f"{name}: the KL never stays above {limit:g} nats in {missing} of {len(values)} subsets; try more steps."
        for name, values in thresholds.items()
        if (missing := values.count(None))
    ]


def _title(content: dict[str, Any]) -> str:
    data = content["data"]
    return f"{data['name']} ({data['source']}), {content['repeats']} subsets for each factor"

"""Thresholds of single factors (Fig. 6): the anneal test on many subsets in which one factor varies (section 6.1)."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import rich
import torch
from omegaconf import DictConfig, OmegaConf
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from deft_lightning.common import results
from deft_lightning.common.errors import DeftError
from deft_lightning.common.seeding import Stream, derive_seed
from deft_lightning.data.base import FactorDataset
from deft_lightning.data.datamodule import FactorDataModule
from deft_lightning.data.factors import FactorSpace
from deft_lightning.model.module import DEFT
from deft_lightning.model.schedules.anneal import Anneal
from deft_lightning.thresholds import crossing, figures, record
from deft_lightning.thresholds.measurement import anneal_of, measurement, settings, take_counts
from deft_lightning.thresholds.population import Population
from deft_lightning.thresholds.populations import anneal, divide
from deft_lightning.thresholds.subsets import Subset, varying
from deft_lightning.training import config

log = logging.getLogger(__name__)


def measure(cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """Measure `repeats` thresholds of every factor, `population` subsets at a time; thresholds.json and a figure.

    A subset is all images that share every factor with one drawn at random but the one that varies. A batch is the
    whole subset, as a loader of batches of 64 gives it: the gradient is the same on average as that of 64 draws with
    replacement, has less noise, and costs less. A larger subset is visited in batches of 64.

    What is finished is written after every population, and not measured again by a resumed measurement; the population
    under way goes on from its checkpoint. It ends with the same thresholds. Raises `DeftError` for data without a full
    grid of labels.
    """
    cfg, counts = take_counts(cfg, "repeats", "population")
    schedule = anneal_of(cfg)
    rule = settings(cfg, schedule)
    checkpoints = folder / "checkpoints"
    with measurement(cfg, folder, counts, rule) as dataset:
        space = _space_of(dataset)
        names = [name for name, size in zip(space.factor_names, space.factor_sizes, strict=True) if size > 1]
        found = _known(folder, names)
        content = {
            "kind": "factors",
            "finished": False,
            "data": dataset.description,
            "settings": rule,
            "notices": [],
            "factors": found,
            "images": {name: space.sizes[space.names.index(name)] for name in names},
            "repeats": counts["repeats"],
            "pressures": _pressures(cfg),
        }
        device = config.build(cfg, "trainer", logger=False, enable_checkpointing=False).strategy.root_device
        total = counts["repeats"] * len(names) * schedule.length
        with _bar() as bar:
            task = bar.add_task("", total=total, completed=sum(map(len, found.values())) * schedule.length)
            for name in names:
                while (first := len(found[name])) < counts["repeats"]:
                    members = range(first, min(first + counts["population"], counts["repeats"]))
                    bar.update(task, description=f"{name}, subsets {first + 1} to {members[-1] + 1}")
                    populations = _populations(cfg, dataset, space, name, members, schedule, device)
                    curves = anneal(populations, schedule.length, lambda steps: bar.advance(task, steps), checkpoints)
                    found[name] += [_threshold(curve, rule) for curve in curves]
                    record.write(folder, content)
        for path in checkpoints.glob("*population_*"):
            path.unlink()
        content["notices"] = _notices(found, rule["limit"])
        record.write(folder, content | {"finished": True})
        _draw(content, folder)
        results.update(folder, thresholds={"kind": "factors", "file": record.FILE, "factors": found})
    return content


def _space_of(dataset: FactorDataset) -> FactorSpace:
    if dataset.space is None:
        raise DeftError(
            f"{dataset.name} has no labels on a full grid, and to vary one factor alone they are needed: the anneal "
            "test on all images, without the word factors, needs none."
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
) -> list[Population]:
    modules, data = [], []
    choices = config.build_choices(cfg)
    for member in members:
        place = (space.names.index(factor), member)
        index = derive_seed(cfg.seed, Stream.SUBSET, *place, 0) % len(dataset)
        subset = Subset(dataset, varying(space, index, factor))
        batch, seed = min(cfg.batch_size, len(subset)), derive_seed(cfg.seed, Stream.SUBSET, *place, 1)
        data.append(FactorDataModule(subset, batch, seed))
        modules.append(
            DEFT(
                choices.groups,
                schedule,
                choices.objective,
                choices.networks,
                image_shape=dataset.shape,
                lr=cfg.lr,
                seed=seed,
                steps_per_epoch=len(subset) // batch,
            )
        )
    return divide(modules, data, device)


def _threshold(curve: crossing.Curve, rule: dict[str, Any]) -> float | None:
    better = crossing.starts_above(curve, rule["beta_high"], rule["limit"], rule["window"])
    if better is not None:
        raise DeftError(crossing.too_low(rule["beta_high"], rule["limit"], better))
    place = curve.crossing(rule["limit"], rule["window"])
    return None if place is None else float(curve.beta[place])


def _known(folder: Path, names: list[str]) -> dict[str, list[float | None]]:
    """The thresholds that an earlier session has measured."""
    if not (folder / record.FILE).exists():
        return {name: [] for name in names}
    return record.read(folder, "factors", finished=False)["factors"]


def _pressures(cfg: DictConfig) -> list[float] | None:
    """Those of the experiment's own schedule, which for the paper's data are Table 1's."""
    pressures = OmegaConf.select(cfg, "schedule.pressures")
    return None if pressures is None else list(pressures)


def _notices(found: dict[str, list[float | None]], limit: float) -> list[str]:
    return [
        f"{name}: KL never stays above {limit:g} nats in {missing} of {len(values)} subsets; more steps may show more."
        for name, values in found.items()
        if (missing := values.count(None))
    ]


def _draw(content: dict[str, Any], folder: Path) -> None:
    data = content["data"]
    title = (
        f"Information thresholds of the factors of {data['name']} ({data['source']}), {content['repeats']} subsets each"
    )
    figure = figures.factors_figure(content["factors"], content["pressures"], title)
    (folder / "figures").mkdir(exist_ok=True)
    figure.savefig(folder / "figures" / "factors.png", dpi=120, bbox_inches="tight")


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("steps"),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=rich.get_console(),
        speed_estimate_period=120,
    )

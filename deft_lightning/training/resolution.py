"""What a schedule takes from the images: found once, when a run begins, and recorded among its settings."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from omegaconf import DictConfig
from torch import Tensor

from deft_lightning.common import results
from deft_lightning.common.checks import is_number
from deft_lightning.common.errors import DeftError
from deft_lightning.data.base import FactorDataset
from deft_lightning.data.spectrum import spectrum_of
from deft_lightning.model.likelihoods import Bernoulli, Gaussian, Likelihood
from deft_lightning.model.schedules.base import Schedule
from deft_lightning.training import config, distributed, run_folder

log = logging.getLogger(__name__)

FIELDS = ("beta_high",)
"""Fields of schedules that are null until `Schedule.resolved` finds their number."""


def as_recorded(cfg: DictConfig, folder: Path) -> DictConfig:
    """`cfg` with the numbers that an earlier session of the run in `folder` has found for null fields."""
    recorded = results.read(folder).get("training", {}).get("schedule", {}) if cfg.resume else {}
    return _with(cfg, {name: recorded[name] for name in _null(cfg) if is_number(recorded.get(name))})


def resolve(cfg: DictConfig, folder: Path, first_eigenvalue: Callable[[], float]) -> DictConfig:
    """`cfg` with a number for every null field of the schedule; results.json and config.yaml in `folder` get it too."""
    schedule: Schedule = config.build(cfg, "schedule")
    resolved = schedule.resolved(first_eigenvalue)
    if resolved is schedule:
        return cfg
    found = {name: getattr(resolved, name) for name in _null(cfg)}
    if distributed.is_main():
        for name, value in found.items():
            log.info("schedule.%s is %g, from the spectrum of the images.", name, value)
        training = results.read(folder)["training"]
        training["schedule"] |= found
        names = [f"schedule.{name}" for name in found]
        results.update(folder, training=training, config_digest=results.digest(training), found=names)
        run_folder.write_config(folder, _with(run_folder.read_config(folder), found))
    return _with(cfg, found)


def first_eigenvalue(dataset: FactorDataset, likelihood: Likelihood, images: Tensor | None = None) -> float:
    """The pressure below which a collapsed model of the images opens its first latent; raises as `noise_variance`.

    `images` are the indices of those to look at, int64 [N]; all by default.
    """
    return float(spectrum_of(dataset, noise_variance=noise_variance(likelihood), images=images).eigenvalues[0])


def noise_variance(likelihood: Likelihood) -> float | None:
    """What the spectrum needs of a likelihood: sigma^2 of a Gaussian, None for Bernoulli.

    Raises `DeftError` for others, whose spectrum is not known.
    """
    if isinstance(likelihood, Gaussian):
        return likelihood.sigma**2
    if isinstance(likelihood, Bernoulli):
        return None
    raise DeftError(
        f"the spectrum of images is known for likelihood=bernoulli and gaussian, not for {likelihood.label}: give "
        "schedule.beta_high as a number, or choose one of these."
    )


def _null(cfg: DictConfig) -> list[str]:
    return [name for name in FIELDS if name in cfg.schedule and cfg.schedule[name] is None]


def _with(cfg: DictConfig, fields: dict[str, float]) -> DictConfig:
    """A copy of `cfg` with `fields` of its schedule."""
    changed = cfg.copy()
    for name, value in fields.items():
        changed.schedule[name] = value
    return changed

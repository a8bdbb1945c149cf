"""Configuration: where conf/ is, what is checked when it is composed, how two configurations are compared."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from deft_lightning.common.checks import is_number, is_whole
from deft_lightning.common.errors import DeftError
from deft_lightning.model.groups import Groups
from deft_lightning.model.schedules.base import Schedule

if TYPE_CHECKING:  # torch is not needed to find or compare configurations
    from deft_lightning.model.objectives import Objective

TRAINING_KEYS = ("data", "groups", "schedule", "objective", "scale", "seed", "batch_size", "lr", "init_from", "trunk")
"""What decides the weights; a run is only resumed with the same values of all of these."""

TRAINER_KEYS = ("precision", "gradient_clip_val", "gradient_clip_algorithm", "deterministic")
"""Options of the trainer that decide the weights as well."""

KNOWN_KEYS = (
    *TRAINING_KEYS,
    "name",
    "method",
    "tags",
    "compile",
    "threads",
    "resume",
    "metrics",
    "callbacks",
    "trainer",
    "logger",
    "table1",
    "sweep",
)


class Choices(NamedTuple):
    """The three choices of the design, built from a configuration."""

    groups: Groups
    schedule: Schedule
    objective: Objective

    @property
    def method(self) -> str:
        """The method's name in tables and figures: "beta-VAE", "DEFT", "DEFT (FactorVAE)", "beta-VAE, piecewise"."""
        label, many, staged = self.objective.label, len(self.groups) > 1, self.schedule.stages > 1
        if many and staged:
            name = label if label.startswith("DEFT") else "DEFT" if label == "beta-VAE" else f"DEFT ({label})"
            return ", ".join([name, *self.groups.variants])
        return f"{label}, {len(self.groups)} groups" if many else f"{label}, piecewise" if staged else label


def check(cfg: DictConfig) -> Choices:
    """Build groups, schedule and objective, checked against each other and with every scalar of the right kind.

    Raises `DeftError` with one sentence naming the field.
    """
    for key in map(str, cfg):
        if key not in KNOWN_KEYS:
            raise DeftError(f"{key} is not a field of the configuration: the fields are {', '.join(KNOWN_KEYS)}.")
    _check_number(cfg, "seed", int, low=0)
    _check_number(cfg, "batch_size", int, low=1)
    _check_number(cfg, "lr", float, low=0, above=True)
    check_metrics(cfg)
    if not isinstance(cfg.name, str) or not cfg.name:
        raise DeftError(f"name is {cfg.name!r}: give a word that is not a number, as in name=first_try.")
    if not isinstance(cfg.tags, ListConfig) or not all(isinstance(tag, str) for tag in cfg.tags):
        raise DeftError(f"tags is {to_plain(cfg, 'tags')!r}: give a list of words, as in tags=[paper,gamma].")
    for key in ("method", "init_from"):
        if cfg[key] is not None and not isinstance(cfg[key], str):
            raise DeftError(f"{key} is {cfg[key]!r}: give a word, or null.")
    if cfg.trainer.get("accumulate_grad_batches", 1) != 1:
        raise DeftError(
            "trainer.accumulate_grad_batches is not 1: a step of the schedule is a batch; set batch_size instead."
        )
    if not isinstance(cfg.compile, bool):
        raise DeftError(f"compile is {cfg.compile!r}: give true or false.")
    if cfg.threads is not None:
        _check_number(cfg, "threads", int, low=1)
    if not isinstance(cfg.resume, bool | str):
        raise DeftError(f"resume is {cfg.resume!r}: give true, false or the folder of a run.")
    groups, schedule, objective = (build(cfg, key) for key in ("groups", "schedule", "objective"))
    groups.check(schedule.stages)
    objective.check(schedule)
    return Choices(groups, schedule, objective)


def build(cfg: DictConfig, key: str, **extra: Any) -> Any:
    """Instantiate `cfg[key]`; lists arrive as lists. Raises `DeftError` for fields its target does not have."""
    try:
        return instantiate(cfg[key], _convert_="all", **extra)
    except Exception as error:
        raise _sentence(error, key) from error


def training_part(cfg: DictConfig, schedule: Schedule) -> dict[str, Any]:
    """The resolved fields that decide the weights, without the place of the data on this machine."""
    part: dict[str, Any] = {key: to_plain(cfg, key) for key in TRAINING_KEYS}
    part["data"] = {key: value for key, value in part["data"].items() if key != "root"}
    part["schedule"] = schedule.record(part["schedule"])
    part["trainer"] = {key: cfg.trainer[key] for key in TRAINER_KEYS if key in cfg.trainer}
    return part


def to_plain(cfg: DictConfig, key: str) -> Any:
    """`cfg[key]` as plain, resolved containers."""
    value = cfg[key]
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def differences(old: Any, new: Any, name: str = "") -> list[str]:
    """What differs between two plain configurations, one "field: old -> new" each."""
    if isinstance(old, dict) and isinstance(new, dict):
        rows = []
        for key in [*old, *(k for k in new if k not in old)]:
            rows += differences(old.get(key), new.get(key), f"{name}.{key}" if name else str(key))
        return rows
    return [] if old == new else [f"{name}: {old} -> {new}"]


def check_metrics(cfg: DictConfig) -> None:
    """Raise `DeftError`, naming the field, unless the metrics part of `cfg` is one that can be scored."""
    from deft_lightning.evaluation.scores import Settings  # noqa: PLC0415  # needs torch

    fields = to_plain(cfg, "metrics")
    known = [field.name for field in dataclasses.fields(Settings)]
    for field in fields:
        if field not in known:
            raise DeftError(f"metrics.{field} is not a field of the configuration: the fields are {', '.join(known)}.")
    Settings(**fields)


def _check_number(cfg: DictConfig, field: str, kind: type, low: float, above: bool = False) -> None:
    value = OmegaConf.select(cfg, field)
    good = is_whole(value) if kind is int else is_number(value)
    if not good or value < low or (above and value == low):
        what = "whole number" if kind is int else "number"
        raise DeftError(
            f"{field} is {value!r}: give a {what} {'above' if above else 'from'} {low}{'' if above else ' up'}."
        )


def _sentence(error: BaseException, key: str) -> DeftError:
    """The innermost reason of a failed instantiation, as one sentence."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    if isinstance(cause, DeftError):
        return cause
    reason = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
    if isinstance(cause, OmegaConfBaseException):
        return DeftError(f"{key}: {reason}.")
    return DeftError(f"{key} cannot be built from the configuration ({reason}): look at its fields with --cfg job.")

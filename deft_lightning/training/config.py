"""The configuration of a run: its choices built and checked, and what of it decides the weights."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from deft_lightning.common import checks
from deft_lightning.common.conf import choice_names, config_folder
from deft_lightning.common.errors import DeftError, first_line
from deft_lightning.common.method import Method
from deft_lightning.model.groups import Groups
from deft_lightning.model.optimizers import OptimizerFactory
from deft_lightning.model.schedules.base import Schedule
from deft_lightning.training.trainer_fields import check_trainer

if TYPE_CHECKING:  # torch is not needed to compare configurations
    from deft_lightning.data.base import FactorDataset
    from deft_lightning.model.likelihoods import Likelihood
    from deft_lightning.model.networks import Networks
    from deft_lightning.model.objectives import Objective

CHOICES = ("data", "groups", "schedule", "objective", "networks", "likelihood", "optimizer")
"""Config groups whose file names a class with `_target_`."""

TRAINING_KEYS = (*CHOICES, "scale", "seed", "batch_size", "lr", "init_from", "shared_stages")
"""What decides the weights: a run is resumed only with the same values of all of these."""

TRAINER_KEYS = ("precision", "gradient_clip_val", "gradient_clip_algorithm", "deterministic")
"""Options of the trainer that decide the weights as well."""

AUTO_PRECISION = "auto"
"""`trainer.precision` where the machine decides it, see `training.precision`."""

DATA_MODULE = ("held_out", "workers")
"""Fields of `data` that are not the data set's but the data module's."""

NOT_IN_TRAINING = ("root", "workers", "in_memory")
"""Fields of `data` that do not change what is trained on: where images are, and who reads them."""

IMAGE_SIZE = 64
"""Of every data set that has no field for it."""

LENGTHS_AND_PRESSURES = ("epochs", "pressures", "pressure")
"""An experiment sets these for its own schedule; with another, such as the anneal test's, they have no effect.

One that is typed and has no effect is refused, see `check_overrides`.
"""

USED_BY = {"epochs": "n", "pressures": "repeats"}
"""Fields of the experiment's own schedule that a measurement uses, by a field that only its configuration has:
`thresholds propose` the length, `thresholds factors` the pressures."""


class Choices(NamedTuple):
    """The choices of the design, built from a configuration."""

    groups: Groups
    schedule: Schedule
    objective: Objective
    networks: Networks
    likelihood: Likelihood
    optimizer: OptimizerFactory

    def method(self, name: str | None = None) -> Method:
        """What tables and figures call the method; `name` is the user's own name for it."""
        return Method(
            self.objective.label,
            len(self.groups),
            self.schedule.stages,
            self.groups.variants,
            likelihood=self.likelihood.label,
            name=name,
        )


def build_choices(cfg: DictConfig) -> Choices:
    """Check every scalar, then build the choices and check them against each other.

    Raises `DeftError` with one sentence that names the field.
    """
    _check_scalars(cfg)
    check_metrics(cfg)
    choices = Choices(*(_part(cfg, key) for key in Choices._fields))
    choices.groups.check(choices.schedule.stages)
    choices.objective.check(choices.schedule)
    choices.networks.check(len(choices.groups), cfg.data.get("image_size", IMAGE_SIZE))
    return choices


def _part(cfg: DictConfig, key: str) -> Any:
    from deft_lightning.model.description import PARTS  # noqa: PLC0415  # needs torch

    part = build(cfg, key)
    if not isinstance(part, PARTS[key]):
        kind = f"{type(part).__module__}:{type(part).__qualname__}"
        raise DeftError(f"{key} is {kind}, which is no deft_lightning.{PARTS[key].__name__}: make it a subclass.")
    return part


def build(cfg: DictConfig, key: str, **extra: Any) -> Any:
    """Instantiate `cfg[key]`; lists arrive as lists. Raises `DeftError` for fields that its target does not have."""
    try:
        part = OmegaConf.create(_fields(cfg, key)) if key in ("schedule", "data") else cfg[key]
        return instantiate(part, _convert_="all", **extra)
    except Exception as error:
        raise _sentence(error, key) from error


def dataset(cfg: DictConfig) -> FactorDataset:
    """The data set of `cfg`, also of a map-style torch Dataset. Raises `DeftError` for anything else."""
    from deft_lightning.data.torch_images import as_images  # noqa: PLC0415  # needs torch

    if cfg.data.get("_target_") is None:
        raise DeftError("data._target_ is null: give your Dataset, as in data._target_=my_module.MyDataset.")
    return as_images(build(cfg, "data"))


def data_module_options(cfg: DictConfig) -> dict[str, Any]:
    """The arguments of `FactorDataModule` beside the data set."""
    given = {name: cfg.data[name] for name in DATA_MODULE if name in cfg.data}  # runs of earlier versions have none
    return {"batch_size": cfg.batch_size, "seed": cfg.seed, **given}


def check_overrides(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Raise `DeftError` for a length or a pressure of the schedule in `overrides`, as typed, that has no effect.

    In configuration files such fields are fine: an experiment sets them for its own schedule.
    """
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    keys = [override.key_or_group for override in parsed if not override.is_delete()]
    typed = [key.removeprefix("schedule.") for key in keys if key.startswith("schedule.")]
    if not typed:
        return
    fields = to_plain(cfg, "schedule")
    given = {name: fields[name] for name in typed if fields.get(name) is not None}
    accepted = _accepted(fields)
    used = [*accepted, *(name for name, by in USED_BY.items() if by in cfg)]
    for name, value in given.items():
        if name in LENGTHS_AND_PRESSURES and name not in used:
            schedule = choice_names("schedule").get(fields["_target_"], fields["_target_"])
            raise DeftError(
                f"schedule.{name} is {value}, and schedule={schedule} does not use it: set {_instead(name, used)}."
            )
    if "steps" in given and fields.get("epochs") is not None and "epochs" in accepted:
        raise DeftError(
            f"schedule.steps is {given['steps']}, and has no effect since schedule.epochs is {fields['epochs']}: set "
            "schedule.epochs, or add schedule.epochs=null."
        )


def _accepted(fields: dict[str, Any]) -> list[str]:
    """The fields that the class of a schedule takes. Raises `DeftError` where there is no such class."""
    try:
        return list(inspect.signature(get_object(fields["_target_"])).parameters)
    except Exception as error:
        raise _sentence(error, "schedule") from error


def _instead(name: str, used: list[str]) -> str:
    """The fields to set where a schedule with the fields `used` has no `name`."""
    twin, lengths = {"pressure": "pressures", "pressures": "pressure"}.get(name), ("epochs", "steps")
    others = [other for other in used if other != "fraction"]
    alike = [other for other in others if (other in lengths) == (name in lengths)]
    return " or ".join(f"schedule.{other}" for other in ([twin] if twin in used else alike or others))


def training_part(cfg: DictConfig, schedule: Schedule) -> dict[str, Any]:
    """The resolved fields that decide the weights, without the place of the data on this machine."""
    part: dict[str, Any] = {key: to_plain(cfg, key) for key in TRAINING_KEYS}
    for key in CHOICES:
        part[key] = _named(key, _fields(cfg, key))
    for name in NOT_IN_TRAINING:
        part["data"].pop(name, None)
    if held_out := cfg.data.get("held_out"):
        part["data"]["held_out"] = held_out
    part["schedule"] = schedule.record(part["schedule"])
    part["trainer"] = {key: cfg.trainer[key] for key in TRAINER_KEYS if key in cfg.trainer}
    if part["trainer"].get("precision") == AUTO_PRECISION:
        del part["trainer"]["precision"]  # what it comes to is a matter of the machine, not of the method
    return part


def _fields(cfg: DictConfig, key: str) -> dict[str, Any]:
    """The fields of a choice; of a schedule without those that only another kind of schedule has.

    Of the data without those of the data module.
    """
    fields = to_plain(cfg, key)
    if key == "data":
        return {name: value for name, value in fields.items() if name not in DATA_MODULE}
    if key == "schedule":
        accepted = _accepted(fields)
        unused = [name for name in LENGTHS_AND_PRESSURES if name not in accepted]
        fields = {name: value for name, value in fields.items() if name not in unused}
    return fields


def _named(group: str, fields: dict[str, Any]) -> dict[str, Any]:
    """`fields` with the public name of the choice in place of `_target_`; module:name for a class from elsewhere."""
    target = fields.get("_target_", "")
    module, _, name = target.rpartition(".")
    rest = {key: value for key, value in fields.items() if key != "_target_"}
    if target in choice_names(group):
        return {"name": choice_names(group)[target], **rest}
    return rest if module == "deft_lightning" else {"name": f"{module}:{name}", **rest}


def to_plain(cfg: DictConfig, key: str) -> Any:
    """`cfg[key]` as plain, resolved containers."""
    value = cfg[key]
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def targets(part: Any) -> Iterator[str]:
    """Every `_target_` in a part of a configuration, to any depth: each of them is imported."""
    if isinstance(part, dict):
        if part.get("_target_") is not None:
            yield str(part["_target_"])
        part = list(part.values())
    if isinstance(part, list):
        for item in part:
            yield from targets(item)


def differences(old: Any, new: Any, name: str = "") -> list[str]:
    """What differs between two plain configurations, one "field: old -> new" each."""
    if isinstance(old, dict) and isinstance(new, dict):
        rows = []
        for key in [*old, *(k for k in new if k not in old)]:
            rows += differences(old.get(key), new.get(key), f"{name}.{key}" if name else str(key))
        return rows
    return [] if old == new else [f"{name}: {old} -> {new}"]


def check_metrics(cfg: DictConfig) -> None:
    """Raise `DeftError`, naming the field, unless the metrics part of `cfg` can be scored."""
    from deft_lightning.evaluation import own  # noqa: PLC0415
    from deft_lightning.evaluation.scores import Settings  # noqa: PLC0415  # needs torch

    values = to_plain(cfg, "metrics")
    names = [field.name for field in dataclasses.fields(Settings)]
    for field in values:
        if field not in names:
            raise DeftError(f"metrics.{field} is not a field of the configuration: the fields are {', '.join(names)}.")
    for path in Settings(**values).own.values():
        own.load(path)


def _check_scalars(cfg: DictConfig) -> None:
    names = _field_names()
    for key in map(str, cfg):
        if key not in names:
            raise DeftError(f"{key} is not a field of the configuration: the fields are {', '.join(names)}.")
    checks.whole("seed", cfg.seed)
    checks.whole("batch_size", cfg.batch_size, 1)
    checks.number("lr", cfg.lr, above=True)
    share, workers = (cfg.data.get(name) for name in DATA_MODULE)
    if share is not None:
        checks.share("data.held_out", share)
    if workers is not None:
        checks.whole("data.workers", workers)
    checks.flag("compile", cfg.compile)
    if cfg.threads is not None:
        checks.whole("threads", cfg.threads, 1)
    if not isinstance(cfg.name, str) or not cfg.name:
        raise DeftError(f"name is {cfg.name!r}: give a word that is not a number, as in name=first_try.")
    if not isinstance(cfg.tags, ListConfig) or not all(isinstance(tag, str) for tag in cfg.tags):
        raise DeftError(f"tags is {to_plain(cfg, 'tags')!r}: give a list of words, as in tags=[paper,gamma].")
    for key in ("method", "init_from"):
        if cfg[key] is not None and not isinstance(cfg[key], str):
            raise DeftError(f"{key} is {cfg[key]!r}: give a word, or null.")
    if not isinstance(cfg.resume, bool | str):
        raise DeftError(f"resume is {cfg.resume!r}: give true, false or the folder of a run.")
    check_trainer(cfg.trainer)


def _field_names() -> list[str]:
    """The top-level fields of conf/config.yaml: its own, and its config groups."""
    content = OmegaConf.load(config_folder() / "config.yaml")
    assert isinstance(content, DictConfig)
    groups = [str(key).split()[-1] for entry in content.defaults if isinstance(entry, DictConfig) for key in entry]
    own = [str(key) for key in content if key != "defaults" and key not in groups]
    return [*(group for group in groups if group != "hydra"), *own]


def _sentence(error: BaseException, key: str) -> DeftError:
    """The reason of a failed instantiation, as one sentence: the outermost `DeftError`, else the innermost reason."""
    cause: BaseException = error
    while not isinstance(cause, DeftError) and cause.__cause__ is not None:
        cause = cause.__cause__  # that of a DeftError is another library's, and does not name the file
    if isinstance(cause, DeftError):
        return cause
    reason = first_line(cause)
    if isinstance(cause, ModuleNotFoundError) and cause.name:
        parent, _, name = cause.name.rpartition(".")
        if parent in sys.modules:  # Hydra looks for a module where a module has no such class
            return DeftError(f"{key} is {cause.name}, and {parent} has no {name}: look at its _target_.")
        return DeftError(
            f"{key} needs the module {cause.name}, which cannot be found: run the command in the folder that has it, "
            "or install it."
        )
    if isinstance(cause, OmegaConfBaseException):
        return DeftError(f"{key}: {reason}.")
    return DeftError(f"{key} cannot be built from the configuration ({reason}): look at its fields with --cfg job.")

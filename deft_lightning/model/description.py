"""The parts of a model as plain values, so that a checkpoint holds all that is needed to build it again."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import deft_lightning
from deft_lightning.common.errors import DeftError
from deft_lightning.model.groups import Groups
from deft_lightning.model.likelihoods import Likelihood
from deft_lightning.model.networks import Networks
from deft_lightning.model.objectives import Objective
from deft_lightning.model.optimizers import OptimizerFactory
from deft_lightning.model.schedules.base import Schedule

Part = TypeVar("Part")

PARTS: dict[str, type] = {
    "groups": Groups,
    "schedule": Schedule,
    "objective": Objective,
    "networks": Networks,
    "likelihood": Likelihood,
    "optimizer": OptimizerFactory,
}
"""The class of every part of a model, by the name of its argument."""


def describe_all(parts: Mapping[str, object]) -> dict[str, Any]:
    """`describe` of every part, by name."""
    return {name: describe(part) for name, part in parts.items()}


def build_all(descriptions: Mapping[str, Any], trust: bool) -> dict[str, Any]:
    """The parts that `descriptions` describe, by name; raises `DeftError` as `build` does."""
    return {name: build(descriptions[name], name, base, trust) for name, base in PARTS.items() if name in descriptions}


def class_name(kind: type) -> str:
    """The name under which a class is found again: its public name in this package, or "module:name"."""
    if kind.__name__ in deft_lightning.__all__ and getattr(deft_lightning, kind.__name__) is kind:
        return f"deft_lightning.{kind.__name__}"
    return f"{kind.__module__}:{kind.__qualname__}"


def describe(part: object) -> dict[str, Any]:
    """The class of `part` and the arguments of its constructor, which it must keep as attributes of the same names.

    Where it does not keep one, or one is no plain value, "arguments" is None and "reason" says why.
    """
    description: dict[str, Any] = {"class": class_name(type(part)), "arguments": None}
    arguments = {}
    for name, parameter in inspect.signature(type(part)).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if not hasattr(part, name):
            return description | {"reason": f"it does not keep its argument {name} as an attribute"}
        try:
            arguments[name] = plain(getattr(part, name))
        except TypeError:
            return description | {"reason": f"its attribute {name} is neither a number, text nor a list of these"}
    return description | {"arguments": arguments}


def plain(value: Any) -> Any:
    """`value` as numbers, text, lists and dictionaries. Raises `TypeError` for anything else."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    raise TypeError(type(value).__name__)


def build(description: dict[str, Any], field: str, base: type[Part], trust: bool) -> Part:
    """The part that `description` describes, an instance of `base`.

    `field` is its name for messages. Raises `DeftError` for a class from outside this package unless `trust` is true,
    for one that cannot be imported or is no `base`, and where the arguments are not known.
    """
    name, arguments = description["class"], description["arguments"]
    instead = f"pass {field}=... to build it yourself"
    module, _, attribute = name.replace(":", ".").rpartition(".") if ":" not in name else name.partition(":")
    if not trust and module.partition(".")[0] != "deft_lightning":
        raise DeftError(
            f"{field} of this checkpoint is {name}, which is not part of deft_lightning: add trust=True (in a command "
            f"--trust) to import it, if you trust the file, or {instead}."
        )
    if arguments is None:
        raise DeftError(f"{field} of this checkpoint is {name}, and {description['reason']}: {instead}.")
    try:
        kind: Any = import_module(module)
        for part in attribute.split("."):
            kind = getattr(kind, part)
    except (ImportError, AttributeError) as error:
        raise DeftError(
            f"{field} of this checkpoint is {name}, which cannot be imported ({error}): make its module importable, "
            f"or {instead}."
        ) from error
    if not (isinstance(kind, type) and issubclass(kind, base)):
        raise DeftError(f"{field} of this checkpoint is {name}, which is no {base.__name__}: {instead}.")
    try:
        return kind(**arguments)
    except TypeError as error:
        raise DeftError(
            f"{field} of this checkpoint is {name}, which takes other arguments now ({error}): load it with the code "
            f"that it was saved with, or {instead}."
        ) from error

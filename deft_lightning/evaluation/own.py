"""Scores of the user's own: a name in results.json, and a function of codes and factors."""

from __future__ import annotations

import dataclasses
import importlib
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from deft_lightning.common.errors import DeftError

EXAMPLE = "{name: my_score, function: my_module.my_function}"


def path_of(item: Any, field: str, names: tuple[str, ...], taken: Collection[str]) -> str:
    """The path "module.function" of an entry of `field`, such as {name: ..., function: module.function}.

    `names` are the entries of this package. Raises `DeftError` for another form, or a name in `taken`.
    """
    if not isinstance(item, Mapping) or set(item) != {"name", "function"}:
        raise DeftError(f"{field} holds {item!r}: give one of {', '.join(names)}, or your own as {EXAMPLE}.")
    name, path = item["name"], item["function"]
    if not isinstance(name, str) or not name.isidentifier():
        raise DeftError(f"{field} has a score called {name!r}: give a name of letters, digits and underscores.")
    if name in taken:
        raise DeftError(f"{field} has a score of your own called {name}, a name that this package uses: rename it.")
    if not isinstance(path, str) or "." not in path:
        raise DeftError(f"{field} has the function {path!r} for {name}: write module.function.")
    return path


def load(path: str) -> Callable[[Any, Any], Any]:
    """The function at "module.function"; raises `DeftError` where it cannot be imported or called."""
    module, _, name = path.rpartition(".")
    try:
        function = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise DeftError(
            f"the score {path} cannot be imported ({error}): run the command in the folder of its module, or install "
            "that."
        ) from error
    except AttributeError as error:
        raise DeftError(f"the module {module} has no {name}: look at the function of the score.") from error
    except Exception as error:  # of the module's own code
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise DeftError(f"the module {module} of the score {name} fails when it is imported ({reason}).") from error
    if not callable(function):
        raise DeftError(f"{path} is no function: give one of codes [N, D] and factors [N, K].")
    return function  # type: ignore[no-any-return]


def values(name: str, result: Any) -> dict[str, float]:
    """The numbers in the result of a score, by their names in results.json.

    A number is called `name`; the numbers in a dataclass are called `name`_field, its field "score" `name` alone.
    Raises `TypeError` for anything else, and `ValueError` for a number that is not finite.
    """
    if dataclasses.is_dataclass(result) and not isinstance(result, type):
        fields = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
        numbers = {key: value for key, value in fields.items() if np.ndim(value) == 0 and _is_number(value)}
        found = {name if key == "score" else f"{name}_{key}": float(value) for key, value in numbers.items()}
    else:
        found = {name: float(result)}
    if not found:
        raise TypeError("it returned a dataclass without numbers")
    if not all(map(math.isfinite, found.values())):
        raise ValueError("it returned a value that is not finite")
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)

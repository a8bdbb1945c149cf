"""The settings of runs as text, and which of them differ between the runs of one method on one data set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from deft_lightning.common.defaults import completed
from deft_lightning.report.loading import Record

NOT_SWEPT = ("seed", "data", "scale")
"""Parts of `training` that are no settings of a method: runs that differ in data or scale have different labels."""
NOT_A_SETTING = ("shared_stages.folder", "trainer.precision")
"""A folder of the same seed, and the precision, which `auto` leaves out here: what was used is part of the label."""
START = "init_from"
"""It names another run, mostly of the same seed: only whether there is one is a setting of the method."""
NO_VALUE = "none"


def values(runs: Mapping[int, Record]) -> dict[int, str]:
    """The settings in which `runs` differ, as one text for each: "pressure 6", or "" where nothing differs."""
    names = fields(list(runs.values()))
    return {i: value(run, names) for i, run in runs.items()}


def fields(runs: Iterable[Record]) -> list[str]:
    """The settings in which `runs` differ, by dotted name."""
    settings = [_settings(run) for run in runs]
    names = dict.fromkeys(name for each in settings for name in each)
    return [name for name in names if len({each.get(name, NO_VALUE) for each in settings}) > 1]


def value(run: Record, names: Iterable[str]) -> str:
    """The settings `names` of a run as text."""
    settings = _settings(run)
    return ", ".join(f"{_short(name)} {settings.get(name, NO_VALUE)}" for name in names)


def as_text(value: Any) -> str:
    """A setting as text, in which 6 and 6.0 are the same."""
    if isinstance(value, list | tuple):
        return ", ".join(map(as_text, value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return NO_VALUE if value is None else str(value)


def _settings(run: Record) -> dict[str, str]:
    """All settings of a run's method, by dotted name; not what belongs to one run, or was found in its images."""
    recorded = {k: v for k, v in completed(run.mapping("training")).items() if k not in NOT_SWEPT and v is not None}
    own = {*NOT_A_SETTING, *(run.value("found") or [])}
    return {name: "a run" if name == START else text for name, text in _flat(recorded, "") if name not in own}


def _flat(part: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in part.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _flat(value, f"{name}.")
        else:
            yield name, as_text(value)


def _short(name: str) -> str:
    """The last part of a dotted name, without ".name": "pressure" or "networks"."""
    return name.removesuffix(".name").rpartition(".")[-1]

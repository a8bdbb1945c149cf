"""The choices of a run that has not recorded them: the defaults of conf/. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import yaml

from deft_lightning.common.conf import config_folder

CHOICES = ("networks", "likelihood", "optimizer")
"""Config groups that runs of earlier versions do not have, or not with all fields."""


@cache
def option(group: str) -> str:
    """The option that conf/config.yaml takes of `group`, such as "burgess" of "networks"."""
    entries = yaml.safe_load((config_folder() / "config.yaml").read_text())["defaults"]
    return next(str(entry[group]) for entry in entries if isinstance(entry, dict) and group in entry)


@cache
def content(group: str) -> dict[str, Any]:
    """The file of that option, `_target_` included."""
    return dict(yaml.safe_load((config_folder() / group / f"{option(group)}.yaml").read_text()))


def completed(training: Mapping[str, Any]) -> dict[str, Any]:
    """`training` of results.json with the choices that it lacks, and with the fields that a default choice lacks."""
    whole = dict(training)
    for group in CHOICES:
        recorded = whole.get(group)
        default = {"name": option(group)} | {k: v for k, v in content(group).items() if k != "_target_"}
        if not isinstance(recorded, dict) or not recorded:
            whole[group] = default
        elif recorded.get("name") == default["name"]:
            whole[group] = default | recorded
    return whole

"""The folder conf/ with the configuration files."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml


def config_folder() -> Path:
    """conf/: inside the package when installed from a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


@cache
def choice_names(group: str) -> dict[str, str]:
    """The choices of a config group by the class they build: {"deft_lightning.DIPVAE1": "dip_vae_i", ...}.

    A class that several files of the group build has no name of its own and is left out.
    """
    names: dict[str, str] = {}
    repeated: set[str] = set()
    for path in sorted((config_folder() / group).glob("[!_]*.yaml")):
        content = yaml.safe_load(path.read_text())
        target = _target(content, group)
        if target in names:
            repeated.add(target)
        elif target is not None:
            names[target] = path.stem
    return {target: name for target, name in names.items() if target not in repeated}


def _target(content: Any, group: str) -> str | None:
    """`_target_` of a file, also of one that belongs to the package _global_ and so names its group."""
    if not isinstance(content, dict):
        return None
    inner = content.get(group)
    return content.get("_target_") or (inner.get("_target_") if isinstance(inner, dict) else None)

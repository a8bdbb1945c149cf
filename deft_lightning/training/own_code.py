"""What of a run is code from outside this package: where it is, and its digest, so that changes are noticed."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from deft_lightning.training import config

log = logging.getLogger(__name__)

PACKAGES = ("deft_lightning", "hydra_plugins")


def sources(cfg: DictConfig) -> dict[str, dict[str, str]]:
    """The module of every class and function from outside this package that `cfg` names: {module: {file, digest}}.

    These are the `_target_` in choices and callbacks, to any depth, and the functions of scores.
    """
    found = {}
    for name in dict.fromkeys(_names(cfg)):
        module, file = _file(name)
        if file is not None:
            digest = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
            found[module] = {"file": str(file), "digest": digest}
    return found


def warn_of_changes(recorded: dict[str, dict[str, str]], now: dict[str, dict[str, str]]) -> None:
    """Warn where a module has changed since it was `recorded`."""
    for module, source in recorded.items():
        if module in now and now[module]["digest"] != source.get("digest"):
            log.warning(
                "%s (%s) has changed since this run began: the steps from here on may not be those of the old code.",
                module,
                now[module]["file"],
            )


def _names(cfg: DictConfig) -> Iterator[str]:
    """Dotted names of classes and functions from elsewhere."""
    targets: list[Any] = []
    for key in (*config.CHOICES, "callbacks"):
        if key in cfg:
            targets += config.targets(config.to_plain(cfg, key))
    metrics: dict[str, Any] = config.to_plain(cfg, "metrics") if "metrics" in cfg else {}
    for key in ("each_stage", "at_end"):
        targets += [item.get("function") for item in metrics.get(key) or [] if isinstance(item, dict)]
    for target in targets:
        if isinstance(target, str) and target.partition(".")[0] not in PACKAGES:
            yield target


def _file(name: str) -> tuple[str, Path | None]:
    """The module of a dotted name and its file; None where it has none, as for a notebook, or cannot be imported."""
    module = name.rpartition(".")[0]
    try:
        file = inspect.getsourcefile(importlib.import_module(module))
    except Exception:  # of the module's own code; what is built from it tells the reason
        return module, None
    return module, Path(file) if file and Path(file).is_file() else None

"""The overrides of a sweep and of its jobs: as they were typed, and those that make a job what it is."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from omegaconf import DictConfig, ListConfig, OmegaConf

RESTART_OPTIONS = re.compile(r"[+~]*sweep\.(name|resume|over|score)=")
"""Overrides that may change when a sweep is started again; its jobs stay the same."""


def raw_overrides(overrides: Iterable[str]) -> list[str]:
    """Overrides as the user typed them: interpolations, whose values may differ between jobs, are not resolved."""
    if isinstance(overrides, ListConfig):
        overrides = OmegaConf.to_container(overrides, resolve=False)  # type: ignore[assignment]
    return list(overrides)


def identifying_overrides(overrides: Iterable[str]) -> list[str]:
    """The overrides that make a job or a sweep what it is, sorted: all but `RESTART_OPTIONS`."""
    return sorted(override for override in raw_overrides(overrides) if not RESTART_OPTIONS.match(override))


def digest(overrides: Iterable[str]) -> str:
    """Eight hexadecimal digits, the same for jobs with the same identifying overrides."""
    return hashlib.sha256("\n".join(identifying_overrides(overrides)).encode()).hexdigest()[:8]


def sweeper_params(config: DictConfig) -> list[str]:
    """The overrides that the configuration of a sweep itself has, such as those of +sweep=paper."""
    return [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]

"""Finds and reads results.json and thresholds.json; what cannot be used becomes a sentence, never an exception."""

from __future__ import annotations

import glob
import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from deft_lightning.common import results
from deft_lightning.common.checks import is_number
from deft_lightning.common.errors import DeftError

log = logging.getLogger(__name__)

THRESHOLDS = "thresholds.json"


@dataclass(frozen=True)
class Run:
    """One results.json; whatever is missing or of the wrong kind in it reads as absent."""

    folder: Path
    content: dict[str, Any]

    @property
    def status(self) -> str:
        """starting, running, finished, interrupted or failed."""
        return self.text("status") or "unknown"

    @property
    def finished(self) -> bool:
        """Whether its last scores are those of the whole schedule."""
        return self.status == "finished"

    @property
    def method(self) -> str:
        """Label of the method; the experiment's name for a run that recorded none."""
        return self.text("method") or self.text("name") or "unknown"

    @property
    def name(self) -> str:
        """Name of the experiment."""
        return self.text("name") or ""

    @property
    def dataset(self) -> str:
        """Short name of the data set."""
        return self.text("data", "name") or "unknown data"

    @property
    def source(self) -> str:
        """Where the pixels come from, the background's origin with it where there is one."""
        background = self.text("data", "background")
        source = self.text("data", "source") or "unknown source"
        return f"{source}, {background} background" if background else source

    @property
    def scale(self) -> str:
        """How much of its schedule was run; "" where it is not recorded."""
        fraction = self.value("training", "scale", "fraction")
        if not is_number(fraction):
            return ""
        return "full schedule" if fraction == 1 else f"{100 * fraction:.3g}% of the steps"

    @property
    def seed(self) -> int | None:
        """The seed; None where it is not recorded."""
        seed = self.content.get("seed")
        return seed if isinstance(seed, int) else None

    @cached_property
    def stages(self) -> list[dict[str, Any]]:
        """The records of the stages that ended, first stage first."""
        stages = self.mapping("stages")
        numbered = {int(key[6:]): key for key in stages if key.startswith("stage_") and key[6:].isdecimal()}
        return [stages[numbered[n]] for n in sorted(numbered) if isinstance(stages[numbered[n]], dict)]

    @cached_property
    def scores(self) -> dict[str, float]:
        """The scores of the last stage that ended."""
        return numbers(self.stages[-1].get("scores")) if self.stages else {}

    def text(self, *keys: str) -> str | None:
        """The string at a path of keys; None where there is none."""
        value = self.value(*keys)
        return value if isinstance(value, str) else None

    def mapping(self, *keys: str) -> dict[str, Any]:
        """The mapping at a path of keys; empty where there is none."""
        value = self.value(*keys)
        return value if isinstance(value, dict) else {}

    def value(self, *keys: str) -> Any:
        """Whatever is at a path of keys; None where there is nothing."""
        value: Any = self.content
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def history(self, kind: str) -> list[tuple[int, dict[str, Any]]]:
        """(step, record) of what was logged over training under `kind`, by step."""
        rows = self.mapping("history", kind)
        return sorted((int(k), v) for k, v in rows.items() if k.isdecimal() and isinstance(v, dict))


@dataclass
class Found:
    """What lies under the paths that were given."""

    runs: list[Run] = field(default_factory=list)
    thresholds: list[Run] = field(default_factory=list)
    """Contents of thresholds.json files; they have the `data` of a run, and their own `kind`."""
    problems: list[str] = field(default_factory=list)
    """One sentence for every file that cannot be used."""


def load(paths: Sequence[str | Path]) -> Found:
    """Everything under `paths`: folders, searched to any depth, results.json files, or glob patterns.

    Raises `DeftError` when there is no results.json and no thresholds.json at all.
    """
    found = Found()
    files: dict[Path, Path] = {}  # a file that two of the paths lead to is one
    for given in paths:
        here = {path.resolve(): path for path in _files(given)}
        files |= here
        if not here:
            found.problems.append(f"There is no {results.FILE} or {THRESHOLDS} under {given}.")
    if not files:
        where = ", ".join(map(str, paths))
        raise DeftError(f"no {results.FILE} or {THRESHOLDS} under {where}: give the folder of a sweep or of runs.")
    for path in sorted(files.values()):
        content = _read(path, found.problems)
        if content is not None and path.name == THRESHOLDS and content.get("finished") is False:
            found.problems.append(f"{path} is of a measurement that is not finished: it is left out until it is.")
        elif content is not None:
            (found.runs if path.name == results.FILE else found.thresholds).append(Run(path.parent, content))
    for problem in found.problems:
        log.warning(problem)
    return found


def numbers(mapping: Any) -> dict[str, float]:
    """The finite numbers of a mapping; everything else in it counts as missing."""
    if not isinstance(mapping, dict):
        return {}
    return {str(k): float(v) for k, v in mapping.items() if is_number(v)}


def _files(path: str | Path) -> Iterator[Path]:
    matches = [str(path)] if os.path.exists(path) else glob.glob(str(path), recursive=True)
    for match in map(Path, matches):
        if match.is_file() and match.name in (results.FILE, THRESHOLDS):
            yield match
        for folder, folders, names in os.walk(match):
            here = [name for name in (results.FILE, THRESHOLDS) if name in names]
            yield from (Path(folder, name) for name in here)
            if here:
                folders.clear()  # no run lies inside another


def _read(path: Path, problems: list[str]) -> dict[str, Any] | None:
    try:
        content = results.read(path.parent) if path.name == results.FILE else json.loads(path.read_text())
    except DeftError as error:
        problems.append(str(error))
        return None
    except (OSError, ValueError) as error:
        problems.append(f"{path} cannot be read ({error}): restore it, or move it away.")
        return None
    if not isinstance(content, dict):
        problems.append(f"{path} is not a record of this package: move it away.")
        return None
    version = content.get("schema_version", results.SCHEMA_VERSION)
    if not isinstance(version, int) or version > results.SCHEMA_VERSION:
        problems.append(
            f"{path} has schema version {version!r}, and this version of the package reads up to "
            f"{results.SCHEMA_VERSION}: it is left out; update the package."
        )
        return None
    return content

"""Find and read results.json and thresholds.json. A file that cannot be used becomes a sentence, not an exception."""

from __future__ import annotations

import glob
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from deft_lightning.common import results
from deft_lightning.common.checks import is_number, is_whole
from deft_lightning.common.errors import DeftError
from deft_lightning.common.method import Method

log = logging.getLogger(__name__)

THRESHOLDS = "thresholds.json"
SCHEMA_VERSIONS = {results.FILE: results.SCHEMA_VERSION, THRESHOLDS: 1}


@dataclass(frozen=True)
class Record:
    """The content of one results.json or thresholds.json; a field of the wrong type reads as absent."""

    folder: Path
    content: dict[str, Any]
    digest: str = ""
    """SHA-256 of the file as it was read, in hexadecimal digits; "" where the record is not from a file."""

    @property
    def status(self) -> str:
        """A value of `results.Status`, or "unknown"."""
        return self.text("status") or "unknown"

    @property
    def finished(self) -> bool:
        """Whether every step of the schedule was taken, so that the last scores are the final ones."""
        return self.status == results.Status.FINISHED

    @cached_property
    def method(self) -> Method:
        """The method; where none is recorded, one that is named after the experiment."""
        record = self.mapping("method")
        fields = {key: value for key, value in record.items() if _is_method_field(key, value)}
        return Method.of_record(fields) if fields else Method("unknown", name=self.name or None)

    @property
    def diverged(self) -> bool:
        """Whether the loss or the weights were no longer finite: the run has no final scores and never will."""
        return self.status == results.Status.DIVERGED

    @property
    def length(self) -> int | None:
        """Optimiser steps of the whole run; of one that did not finish, those that were planned."""
        boundaries, steps = self.value("boundaries"), self.value("steps")
        if not (self.finished and is_whole(steps)):
            steps = boundaries[-1] if isinstance(boundaries, list) and boundaries else steps
        return steps if is_whole(steps) else None

    @property
    def name(self) -> str:
        """Name of the experiment; "" where it is not recorded."""
        return self.text("name") or ""

    @property
    def dataset(self) -> str:
        """Short name of the data set."""
        return self.text("data", "name") or "unknown data"

    @property
    def source(self) -> str:
        """Where the pixels come from; with a background where that comes from, and the share of images held out."""
        background = self.text("data", "background")
        source = self.text("data", "source") or "unknown source"
        source = f"{source}, {background} background" if background else source
        share = self.value("training", "data", "held_out")
        return f"{source}, {100 * share:.3g}% held out" if is_number(share) and share else source

    @property
    def scale(self) -> str:
        """The fraction of the schedule that was run; "" where it is not recorded."""
        fraction = self.value("training", "scale", "fraction")
        if not is_number(fraction):
            return ""
        return "full schedule" if fraction == 1 else f"{100 * fraction:.3g}% of the steps"

    @property
    def seed(self) -> int | None:
        """The seed; None where it is not recorded."""
        seed = self.content.get("seed")
        return seed if is_whole(seed) else None

    @property
    def commits(self) -> list[str]:
        """The commits of this package by which the run was trained: more than one where it was resumed by another."""
        sessions = [Record(self.folder, session) for session in self.content.get("sessions") or [self.content]]
        return list(dict.fromkeys(commit for session in sessions if (commit := session.text("git_commit"))))

    @cached_property
    def stages(self) -> list[dict[str, Any]]:
        """The records of the stages that ended, in order."""
        return list(self.numbered_stages.values())

    @cached_property
    def numbered_stages(self) -> dict[int, dict[str, Any]]:
        """The same by the number of the stage, from 1: those of a run that starts from another begin later."""
        stages = self.mapping("stages")
        keys = {int(key[6:]): key for key in stages if key.startswith("stage_") and key[6:].isdecimal()}
        return {n: stages[keys[n]] for n in sorted(keys) if isinstance(stages[keys[n]], dict)}

    @cached_property
    def scores(self) -> dict[str, float]:
        """The scores of the last stage that ended."""
        return numbers(self.stages[-1].get("scores")) if self.stages else {}

    def stage_scores(self, number: int) -> dict[str, float]:
        """The scores at the end of a stage, numbered from 1; empty where it did not end."""
        return numbers(self.numbered_stages.get(number, {}).get("scores"))

    @property
    def gaps(self) -> dict[str, float]:
        """After the last stage, max-1 minus max-2 NMI of every factor: its highest less its second highest."""
        if not self.stages:
            return {}
        first, second = (numbers(self.stages[-1].get(key)) for key in ("max1_nmi", "max2_nmi"))
        return {factor: first[factor] - second[factor] for factor in first if factor in second}

    def text(self, *keys: str) -> str | None:
        """The string at a path of keys; None where there is none."""
        value = self.value(*keys)
        return value if isinstance(value, str) else None

    def number(self, *keys: str) -> float | None:
        """The finite number at a path of keys; None where there is none."""
        value = self.value(*keys)
        return value if is_number(value) else None

    def mapping(self, *keys: str) -> dict[str, Any]:
        """The mapping at a path of keys; empty where there is none."""
        value = self.value(*keys)
        return value if isinstance(value, dict) else {}

    def value(self, *keys: str) -> Any:
        """The value at a path of keys, of any type; None where there is none."""
        value: Any = self.content
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def history(self, kind: str) -> list[tuple[int, dict[str, Any]]]:
        """(step, record) pairs of one kind of `history`, sorted by step."""
        rows = self.mapping("history", kind)
        return sorted((int(k), v) for k, v in rows.items() if k.isdecimal() and isinstance(v, dict))


@dataclass
class Records:
    """All records that were read, and the problems with files that could not be."""

    runs: list[Record] = field(default_factory=list)
    thresholds: list[Record] = field(default_factory=list)
    """Records of thresholds.json files, which describe their `data` as runs do."""
    problems: list[str] = field(default_factory=list)
    """One sentence for every file that cannot be used; files of an old schema share one."""


def load(paths: Sequence[str | Path]) -> Records:
    """Read all records under `paths`: folders, searched to any depth, results.json files, or glob patterns.

    Other files are skipped.
    Raises `DeftError` when there is no results.json and no thresholds.json at all.
    """
    records = Records()
    files: dict[Path, Path] = {}  # by resolved path: two of the paths may lead to one file
    for path in paths:
        matches = {match.resolve(): match for match in _files(path)}
        files |= matches
        if not matches and not Path(path).is_file():  # a shell's <sweep>/* also names multirun.yaml
            records.problems.append(f"There is no {results.FILE} or {THRESHOLDS} under {path}.")
    if not files:
        where = ", ".join(map(str, paths))
        raise DeftError(f"no {results.FILE} or {THRESHOLDS} under {where}: give the folder of a sweep or of runs.")
    outdated = []
    for path in sorted(files.values()):
        content = _read(path, records.problems)
        if content is None:
            continue
        if content.get("schema_version", SCHEMA_VERSIONS[path.name]) < SCHEMA_VERSIONS[path.name]:
            outdated.append(path)
        elif path.name == THRESHOLDS and content.get("finished") is False:
            records.problems.append(f"{path} belongs to a measurement that has not finished: it is left out.")
        else:
            kind = records.runs if path.name == results.FILE else records.thresholds
            kind.append(Record(path.parent, content, hashlib.sha256(path.read_bytes()).hexdigest()))
    if outdated:
        records.problems.append(
            f"Files with a schema from before the first release are left out ({len(outdated)} of {len(files)}), such "
            f"as {outdated[0]}: train these runs again."
        )
    for problem in records.problems:
        log.warning(problem)
    return records


def numbers(mapping: Any) -> dict[str, float]:
    """The finite numbers of a mapping; all other values count as missing."""
    if not isinstance(mapping, dict):
        return {}
    return {str(k): float(v) for k, v in mapping.items() if is_number(v)}


def _is_method_field(key: str, value: Any) -> bool:
    if key in ("groups", "stages"):
        return is_whole(value)
    if key == "variants":
        return isinstance(value, list) and all(isinstance(variant, str) for variant in value)
    return isinstance(value, str)


def _files(path: str | Path) -> Iterator[Path]:
    matches = [str(path)] if os.path.exists(path) else glob.glob(str(path), recursive=True)
    for match in map(Path, matches):
        if match.is_file() and match.name in SCHEMA_VERSIONS:
            yield match
        for folder, folders, names in os.walk(match):
            here = [name for name in SCHEMA_VERSIONS if name in names]
            yield from (Path(folder, name) for name in here)
            if here:
                folders.clear()  # runs inside another are parts of it, as the tests of a proposal are


def _read(path: Path, problems: list[str]) -> dict[str, Any] | None:
    """The content of a file whose schema is not newer than this version's; None, and a problem, for any other."""
    try:
        content = results.read(path.parent) if path.name == results.FILE else json.loads(path.read_text())
    except DeftError as error:
        problems.append(str(error))
        return None
    except (OSError, ValueError, RecursionError) as error:
        problems.append(f"{path} cannot be read ({error}): restore it, or move it away.")
        return None
    if not isinstance(content, dict):
        problems.append(f"{path} is not a record of this package: move it away.")
        return None
    newest = SCHEMA_VERSIONS[path.name]
    version = content.get("schema_version", newest)
    if not is_whole(version) or version > newest:
        problems.append(
            f"{path} has schema version {version!r} and is left out, since this version of the package reads up to "
            f"{newest}: update the package."
        )
        return None
    return content

"""A sweep: the jobs of one command, in one folder, where each job's own folder follows from its overrides."""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import filelock
import rich
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from rich.markup import escape

from deft_lightning.common import results
from deft_lightning.common.console import new_table, print_error
from deft_lightning.common.errors import DeftError
from deft_lightning.common.results import Status
from deft_lightning.launch.overrides import digest, identifying_overrides, raw_overrides, sweeper_params
from deft_lightning.launch.planned import UNKNOWN, Planned, plan

log = logging.getLogger(__name__)

PLAN = "multirun.yaml"
"""Hydra writes this file before the first job; the folder of a sweep is known by it."""

KILLED = "its process ended without an error message: it was killed, or memory ran out."


class SweepFolder(Callback):
    """Hydra callback that fixes the name of a sweep, and with it the folder, before the first job.

    A new sweep is named after `name` and the time, or `sweep.name`; `sweep.resume=true` takes the latest of that name.
    Exits with one sentence if a new sweep would use the folder of another, or if there is none to resume.
    """

    current: ClassVar[Path | None] = None
    """The folder of the sweep that this process has started."""
    planned: ClassVar[Planned] = UNKNOWN
    """Its jobs."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Set `sweep.name` and `sweep.over` in the configuration of the sweep and of every job."""
        try:
            swept, name = _swept_keys(config), _choose_name(config)
        except Exception as error:  # Hydra would turn an exception of a callback into a warning
            reason = results.reason_of(error)
            print_error(reason if isinstance(error, DeftError) else f"the sweep cannot be started ({reason}).")
            sys.exit(1)
        with read_write(config), open_dict(config):
            config.sweep.name = name
            # Every job is composed from these overrides.
            config.hydra.overrides.hydra += [f"sweep.name={name}", f"sweep.over=[{','.join(swept)}]"]
        SweepFolder.current = Path(config.hydra.sweep.dir)
        SweepFolder.planned = plan(config, swept)


def _choose_name(config: DictConfig) -> str:
    """The name of the sweep; makes the folder of a new one. Raises `DeftError` if the options do not allow one."""
    resume, chosen = config.sweep.resume, None
    if not isinstance(resume, bool):
        raise DeftError(f"sweep.resume is {resume!r}: give true, and choose the sweep by sweep.name=<its folder>.")
    if config.resume is not False:
        raise DeftError(f"resume is {config.resume!r} in a sweep: use sweep.resume=true instead.")
    if not OmegaConf.is_interpolation(config.sweep, "name"):
        chosen = str(config.sweep.name)
        chosen = chosen.removeprefix(f"{Path(config.hydra.sweep.dir).parent.parent}/").rstrip("/")  # a path is fine
        if not re.fullmatch(r"[\w.\-]+", chosen):
            raise DeftError(f"sweep.name is {chosen!r}: give a word, the name of the sweep's folder.")
    name = chosen or re.sub(r"[^\w.\-]+", "-", str(config.sweep.name))
    if resume:
        return _latest(config, name) if chosen is None else _existing(config, name)
    if chosen is None:
        timed = f"{name}_{time.strftime('%Y-%m-%d_%H-%M-%S')}"
        return next(name for name in _numbered(timed) if _make_folder(_folder(config, name)))
    if not _make_folder(_folder(config, name)) and (_folder(config, name) / PLAN).exists():
        raise DeftError(
            f"{_folder(config, name)} already holds a sweep: add sweep.resume=true to resume it, or choose another "
            "sweep.name."
        )
    return name


def _swept_keys(config: DictConfig) -> list[str]:
    """The fields and config groups in which the jobs of the sweep differ, without plus signs."""
    overrides = [*sweeper_params(config), *raw_overrides(config.hydra.overrides.task)]
    parsed = OverridesParser.create().parse_overrides(overrides)
    return [override.key_or_group for override in parsed if override.is_sweep_override()]


def _latest(config: DictConfig, name: str) -> str:
    """The latest sweep called `name` that was started with the same overrides; raises `DeftError` if there is none."""
    timed = re.compile(rf"{re.escape(name)}_\d{{4}}-\d\d-\d\d_\d\d-\d\d-\d\d(_\d+)?")
    root = _folder(config, name).parent
    plans = {path.parent.name: path for path in root.glob(f"*/{PLAN}") if timed.fullmatch(path.parent.name)}
    if not plans:
        return _existing(config, name)
    overrides = identifying_overrides(config.hydra.overrides.task)
    matches = [
        sweep
        for sweep, plan in plans.items()
        if identifying_overrides(OmegaConf.load(plan).hydra.overrides.task) == overrides
    ]
    if not matches:
        raise DeftError(
            f"no sweep named {name} under {root} has these overrides: start one without sweep.resume, or choose the "
            f"sweep to resume by sweep.name={max(plans)}."
        )
    return max(matches)


def _existing(config: DictConfig, name: str) -> str:
    folder = _folder(config, name)
    if not (folder / PLAN).exists():
        raise DeftError(f"there is no sweep named {name} under {folder.parent}: start one without sweep.resume.")
    before = set(identifying_overrides(OmegaConf.load(folder / PLAN).hydra.overrides.task))
    if changed := sorted(before ^ set(identifying_overrides(config.hydra.overrides.task))):
        log.warning(
            "%s was started with other overrides (%s): a job whose own overrides differ is a new one, and starts from "
            "the beginning.",
            folder,
            ", ".join(changed),
        )
    return name


def _folder(config: DictConfig, name: str) -> Path:
    """The folder of the sweep if its name were `name`."""
    renamed = OmegaConf.merge(config, {"sweep": {"name": name}})
    return Path(renamed.hydra.sweep.dir)


def _numbered(name: str) -> Iterable[str]:
    yield name
    yield from (f"{name}_{number}" for number in count(2))


def _make_folder(folder: Path) -> bool:
    """Make the folder; returns whether it is new, so that two sweeps of the same second get two folders."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        return False
    return True


def job_folder(name: Any, seed: Any, overrides: Iterable[str], over: Iterable[str]) -> str:
    """Hydra's `job_folder` resolver: a folder name that depends on the overrides of the job alone.

    Name, seed and the swept overrides, whose keys are `over`, then a hash of all overrides, so that names are unique
    and stay the same when the sweep is started again.
    """
    identifying = identifying_overrides(overrides)
    words = [str(name), f"seed{seed}"]
    for override in identifying:
        key, _, value = override.lstrip("+~").partition("=")
        group = key.split("@")[0]
        if group == "experiment" and group in over and value != name:
            words.insert(1, value)
        elif group in over and group not in ("experiment", "seed"):
            short = re.sub(r"\d+\.\d{5,}(?!\d|e)", lambda number: f"{float(number.group()):.4g}", value)
            words.append(f"{re.split('[./]', key)[-1]}-{short}")
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', '_'.join(words))[:100]}_{digest(identifying)}"


def lock(folder: Path) -> filelock.BaseFileLock:
    """The lock that a process holds while it works on the job in `folder`; it is released when the process dies."""
    return filelock.FileLock(folder / ".lock", timeout=0)


def jobs(folder: Path) -> dict[str, dict[str, Any]]:
    """The results of every job in the folder of a sweep, by the name of the job's folder.

    A results.json that cannot be read counts as a failed job.
    """
    outcomes = {}
    for path in sorted(folder.glob(f"*/{results.FILE}")):
        try:
            outcomes[path.parent.name] = results.read(path.parent)
        except DeftError as error:
            outcomes[path.parent.name] = {"status": Status.FAILED, "reason": str(error)}
    return outcomes


def report(folder: Path, planned: Planned = UNKNOWN) -> bool:
    """Print a table of the jobs, those of `planned` that have not begun among them; returns whether all have finished.

    A sweep of which no job has begun leaves neither a table nor a folder.
    """
    _record_deaths(folder)
    outcomes = jobs(folder)
    if not outcomes:
        _remove_unused(folder)
        return False
    table = new_table()
    for column in ("job", "status", "step", "reason"):
        table.add_column(column, overflow="fold")
    for name, job in outcomes.items():
        steps = job.get("steps")
        table.add_row(name, job.get("status"), "" if steps is None else f"{steps:,}", escape(job.get("reason") or ""))
    not_begun = planned.not_begun(outcomes)
    for name in not_begun:
        table.add_row(escape(name), "not begun", "", "")
    statuses, total = [job.get("status") for job in outcomes.values()], len(outcomes) + len(not_begun)
    finished, diverged = statuses.count(Status.FINISHED), statuses.count(Status.DIVERGED)
    resumable = total - finished - diverged
    console = rich.get_console()
    console.print(f"\n[bold]{finished} of {total} jobs finished[/] in {folder}")
    console.print(table)
    if diverged:
        console.print(f"\nDiverged jobs ({diverged}) are not trained again: start a new sweep with other settings.")
    if resumable:
        console.print(
            f"\nThe same command with sweep.resume=true sweep.name={folder.name} resumes the jobs that have not "
            f"finished ({resumable})."
        )
    return finished == total


def _record_deaths(folder: Path) -> None:
    """Record as failed each job that is marked as running although no process holds its lock: it was killed."""
    for path in folder.glob(f"*/{results.FILE}"):
        job, active = path.parent, (Status.STARTING, Status.RUNNING)
        if results.status(job) not in active:
            continue
        try:
            with lock(job):
                if results.status(job) in active:  # it may have ended since
                    results.record_end(job, KILLED)
        except filelock.Timeout:
            pass  # another process is working on it


def _remove_unused(folder: Path) -> None:
    """Remove the folder of a sweep that was refused before its first job; jobs may wait in a cluster's queue."""
    if folder.is_dir() and all(path.name == PLAN for path in folder.iterdir()):
        (folder / PLAN).unlink(missing_ok=True)
        folder.rmdir()

"""A sweep: one folder for the jobs of a command, in which every job finds its own folder again."""

from __future__ import annotations

import hashlib
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
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict, read_write
from rich.table import Table

from deft_lightning.common import results
from deft_lightning.common.errors import DeftError

PLAN = "multirun.yaml"  # Hydra writes it before the first job: the mark of a sweep's folder
# What a command may say differently when it is started again.
SAME_JOB = re.compile(r"[+~]*sweep\.(name|resume|over|score)=")


class SweepFolder(Callback):
    """Hydra's callback that names a sweep, and thereby its folder, once for all jobs.

    A fresh sweep takes `name` and the time, or `sweep.name`; with `sweep.resume` it is the latest of that name.
    Leaves with one sentence when a fresh sweep would land on another, or there is none to resume.
    """

    current: ClassVar[Path | None] = None
    """The folder of the sweep that this process has started."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Fix `sweep.name` in the configuration of the sweep and of every job."""
        try:
            swept, name = _swept(config), _name(config)
        except DeftError as error:
            sys.exit(f"error: {error}")
        except Exception as error:  # in a callback it would only be a warning
            sys.exit(f"error: the sweep cannot be begun ({type(error).__name__}: {error}).")
        with read_write(config), open_dict(config):
            config.sweep.name = name
            # Jobs are composed anew, with these.
            config.hydra.overrides.hydra += [f"sweep.name={name}", f"sweep.over=[{','.join(swept)}]"]
        SweepFolder.current = Path(config.hydra.sweep.dir)


def _name(config: DictConfig) -> str:
    """The name of the sweep with the settings `config`; the folder of a fresh one is made."""
    resume, given = config.sweep.resume, None
    if not isinstance(resume, bool):
        raise DeftError(f"sweep.resume is {resume!r}: give true, and a certain sweep as sweep.name=<its folder>.")
    if config.resume is not False:
        raise DeftError("resume is for a single run: go on with a sweep by sweep.resume=true.")
    if not OmegaConf.is_interpolation(config.sweep, "name"):
        given = str(config.sweep.name)
        given = given.removeprefix(f"{Path(config.hydra.sweep.dir).parent.parent}/").rstrip("/")
        if not re.fullmatch(r"[\w.\-]+", given):
            raise DeftError(f"sweep.name is {given!r}: give a word, which names a folder.")
    name = given or re.sub(r"[^\w.\-]+", "-", str(config.sweep.name))
    if resume:
        return _latest(config, name) if given is None else _existing(config, name)
    if given is None:
        fresh = f"{name}_{time.strftime('%Y-%m-%d_%H-%M-%S')}"
        return next(name for name in _numbered(fresh) if _claim(_folder(config, name)))
    if not _claim(_folder(config, name)) and (_folder(config, name) / PLAN).exists():
        raise DeftError(
            f"{_folder(config, name)} already holds a sweep: add sweep.resume=true to go on with it, or choose another "
            "sweep.name."
        )
    return name


def _swept(config: DictConfig) -> list[str]:
    """What the jobs of the sweep differ in, without the plus signs: fields and groups."""
    params = [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]
    parsed = OverridesParser.create().parse_overrides([*params, *as_written(config.hydra.overrides.task)])
    return [override.key_or_group for override in parsed if override.is_sweep_override()]


def _latest(config: DictConfig, name: str) -> str:
    ours = re.compile(rf"{re.escape(name)}_\d{{4}}-\d\d-\d\d_\d\d-\d\d-\d\d(_\d+)?")
    folder = _folder(config, name).parent
    found = [path for path in folder.glob(f"*/{PLAN}") if ours.fullmatch(path.parent.name)]
    asked = _telling(config.hydra.overrides.task)
    same = [path.parent.name for path in found if _telling(OmegaConf.load(path).hydra.overrides.task) == asked]
    if found and not same:
        raise DeftError(
            f"no sweep of the name {name} under {folder} was started with these overrides: start one without "
            f"sweep.resume, or say which to go on with by sweep.name={max(path.parent.name for path in found)}."
        )
    return max(same) if same else _existing(config, name)


def _existing(config: DictConfig, name: str) -> str:
    folder = _folder(config, name)
    if not (folder / PLAN).exists():
        raise DeftError(f"there is no sweep of the name {name} under {folder.parent}: start one without sweep.resume.")
    return name


def _folder(config: DictConfig, name: str) -> Path:
    """Where the sweep would be if it were called `name`."""
    named = OmegaConf.merge(config, {"sweep": {"name": name}})
    return Path(named.hydra.sweep.dir)


def _numbered(name: str) -> Iterable[str]:
    yield name
    yield from (f"{name}_{number}" for number in count(2))


def _claim(folder: Path) -> bool:
    """Make the folder; whether it is new. Two sweeps of one second each get their own."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        return False
    return True


def job_folder(name: Any, seed: Any, overrides: Iterable[str], over: Iterable[str]) -> str:
    """Hydra's `job_folder` resolver: a name made of the job's overrides alone, the same whenever it is started.

    It tells name, seed and what else the jobs differ in, `over`; the digest at its end, of all overrides, tells two
    jobs apart whatever they differ in.
    """
    told = _telling(overrides)
    digest = hashlib.sha256("\n".join(told).encode()).hexdigest()[:8]
    words = [str(name), f"seed{seed}"]
    for override in told:
        key, _, value = override.lstrip("+~").partition("=")
        group = key.split("@")[0]
        if group == "experiment" in over and value != name:
            words.insert(1, value)
        elif group in over and group not in ("experiment", "seed"):
            short = re.sub(r"\d+\.\d{5,}(?!\d|e)", lambda number: f"{float(number.group()):.4g}", value)
            words.append(f"{re.split('[./]', key)[-1]}-{short}")
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', '_'.join(words))[:100]}_{digest}"


def _telling(overrides: Iterable[str]) -> list[str]:
    """Overrides without those that may differ when the command is started again, in order."""
    return sorted(override for override in as_written(overrides) if not SAME_JOB.match(override))


def as_written(overrides: Iterable[str]) -> list[str]:
    """Overrides as they were given: what one of them refers to may differ from job to job, or from sweep to sweep."""
    if isinstance(overrides, ListConfig):
        overrides = OmegaConf.to_container(overrides, resolve=False)  # type: ignore[assignment]
    return list(overrides)


def lock(folder: Path) -> filelock.BaseFileLock:
    """What a process holds while it is at the job in `folder`, and loses when it dies."""
    return filelock.FileLock(folder / ".lock", timeout=0)


def jobs(folder: Path) -> dict[str, dict[str, Any]]:
    """The results of every job in a sweep's folder, by the name of its own; damaged ones as failed."""
    found = {}
    for path in sorted(folder.glob(f"*/{results.FILE}")):
        try:
            found[path.parent.name] = results.read(path.parent)
        except DeftError as error:
            found[path.parent.name] = {"status": "failed", "reason": str(error)}
    return found


def _record_deaths(folder: Path, found: dict[str, dict[str, Any]]) -> None:
    """A job that says it is running while no process holds its lock was killed: its results say so from now on."""
    reason = "its process ended without a word: it was killed, or memory ran out."
    for name, known in found.items():
        if known.get("status") not in ("starting", "running"):
            continue
        try:
            with lock(folder / name):
                if results.read(folder / name).get("status") in ("starting", "running"):
                    results.update(folder / name, status="failed", reason=reason)
                found[name] = results.read(folder / name)
        except filelock.Timeout:
            pass  # another process goes through the same sweep


def report(folder: Path) -> bool:
    """One table of jobs with their status; whether all have finished."""
    found = jobs(folder)
    _record_deaths(folder, found)
    if not found:  # refused before the first job, unless jobs wait in a cluster's queue
        if folder.is_dir() and not any(path.name != PLAN for path in folder.iterdir()):
            (folder / PLAN).unlink(missing_ok=True)
            folder.rmdir()
        return False
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for column in ("job", "status", "step", "reason"):
        table.add_column(column, overflow="fold")
    for name, known in found.items():
        steps = known.get("steps")
        table.add_row(name, known.get("status"), "" if steps is None else f"{steps:,}", known.get("reason") or "")
    finished = sum(known.get("status") == "finished" for known in found.values())
    console = rich.get_console()
    console.print(f"\n[bold]{finished} of {len(found)} jobs finished[/] in {folder}")
    console.print(table)
    if finished < len(found):
        console.print(f"\nThe same command with sweep.resume=true sweep.name={folder.name} goes on with the others.")
    return finished == len(found)

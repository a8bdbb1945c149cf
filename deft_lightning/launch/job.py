"""What Hydra calls for one task, such as a training: a single run, or a job of a sweep.

Launchers send a `Job` to other processes. Importing this module there registers the resolvers that conf/ uses.
"""

from __future__ import annotations

import logging
import signal
import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import filelock
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from deft_lightning.common import console, results
from deft_lightning.common.errors import DeftError, Interrupted
from deft_lightning.common.results import Status
from deft_lightning.launch import sweep
from deft_lightning.launch.overrides import raw_overrides
from deft_lightning.training import config, run_folder

log = logging.getLogger(__name__)

Task = Callable[[DictConfig, Path], object]

OmegaConf.register_new_resolver("run_folder", run_folder.choose, use_cache=True, replace=True)
OmegaConf.register_new_resolver("job_folder", sweep.job_folder, replace=True)
# conf/hydra/launcher replaces the configurations that the launchers' plugins register under the same names.
warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/\w+' is validated against ConfigStore schema")


class Job:
    """Error handling around a task: a `DeftError` becomes one line.

    In a sweep the failure of a job is also recorded in its results.json, and the other jobs continue.
    """

    folder: Path | None = None
    """Of a single run whose task has been called in this process."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def __reduce__(self) -> tuple[Callable[..., Job], tuple[str, str]]:
        """Send the task by its name: a module that `python -m` runs is `__main__` here and not in other processes."""
        module = self.task.__module__
        if module == "__main__" and (spec := sys.modules[module].__spec__) is not None:
            module = spec.name
        return _job_of, (module, self.task.__qualname__)

    def __call__(self, cfg: DictConfig) -> float | None:
        """Run the task in the folder that Hydra made; returns the score `sweep.score` of a job, None without one."""
        console.survive_closed_output()  # launchers call jobs in processes of their own
        console.quieten()
        hydra = HydraConfig.get()
        folder = Path(hydra.runtime.output_dir)
        typed = raw_overrides(hydra.overrides.task)
        if not OmegaConf.is_missing(hydra.job, "num"):
            cfg.sweep.overrides = typed
            return self._unless_locked(cfg, folder)
        try:
            if cfg.sweep.resume is not False:
                raise DeftError(
                    f"sweep.resume is {cfg.sweep.resume!r} without --multirun: add --multirun to resume a sweep, or "
                    "use resume=true to resume a single run."
                )
            if any(key.startswith("+experiment") for key in hydra.sweeper.get("params") or {}):
                raise DeftError(f"{cfg.name} is a sweep over experiments, not a single run: add --multirun.")
            config.check_overrides(cfg, typed)
            with sweep.lock(folder):
                self.folder = folder
                self.task(cfg, folder)
        except filelock.Timeout:
            console.print_error(f"another process is training the run in {folder}: wait for it, or stop it.")
            sys.exit(1)
        except DeftError as error:
            run_folder.remove_unused(folder)
            console.print_error(error)
            sys.exit(1)
        return None

    def _unless_locked(self, cfg: DictConfig, folder: Path) -> float | None:
        """Run a job of a sweep unless another process works on it: several processes may share one sweep."""
        try:
            with sweep.lock(folder):
                return self._in_sweep(cfg, folder)
        except filelock.Timeout:
            log.info("%s is skipped: another process is working on it.", folder.name)
            return None

    def _in_sweep(self, cfg: DictConfig, folder: Path) -> float | None:
        """Start the job, or resume it if an earlier session or an earlier turn on a cluster left it unfinished."""
        try:
            previous, status = results.read(folder), results.status(folder)
            if status is not None and status.final:
                log.info("%s has %s: nothing is left to train.", folder.name, status)
            else:
                config.check_overrides(cfg, raw_overrides(cfg.sweep.overrides))
                cfg.resume = _prepare(folder, previous)
                self.task(cfg, folder)
        except Interrupted as error:  # the signal was meant for the whole sweep
            if error.signal == signal.SIGUSR2:
                signal.raise_signal(signal.SIGUSR2)  # the launcher's own handler puts the job back in the queue
            record_failure(cfg, folder, error)
            sys.exit(1)
        except Exception as error:
            record_failure(cfg, folder, error)
            return None
        try:
            return _score(folder, cfg.sweep.score)
        except DeftError as error:  # the run itself has finished
            console.print_error(f"{folder.name}: {error}")
            return None


def _job_of(module: str, name: str) -> Job:
    """The job whose task is the function `name` of `module`."""
    return Job(getattr(import_module(module), name))


def _prepare(folder: Path, previous: dict[str, Any]) -> bool:
    """Whether the unfinished run with the results `previous` can be resumed; if not, it starts from scratch."""
    if "training" in previous:
        run_folder.set_damaged_aside(folder)
        return True
    if previous:  # it failed before its configuration was accepted
        (folder / results.FILE).unlink()
    return False


def record_failure(cfg: DictConfig, folder: Path, error: Exception) -> None:
    """Print why a job ended and write it to results.json; the traceback of an unforeseen error goes to the log."""
    from deft_lightning.training import record  # noqa: PLC0415  # may need torch

    if not isinstance(error, DeftError):
        log.error("%s failed", folder.name, exc_info=error)
    membership = record.membership(cfg)
    console.print_error(f"{folder.name}: {results.reason_of(error, membership)}")
    try:
        results.record_end(folder, error, name=str(cfg.name), seed=cfg.seed, sweep=membership)
    except (DeftError, OSError, TypeError) as problem:
        log.warning("results.json in %s could not be updated: %s", folder, problem)


def _score(folder: Path, name: str | None) -> float | None:
    """The score `name` of the last stage, which a sweeper maximises; None if the run diverged.

    Raises `DeftError` if the run has no such score.
    """
    if name is None or results.status(folder) != Status.FINISHED:
        return None
    stages = list(results.read(folder).get("stages", {}).values())
    scores = stages[-1].get("scores", {}) if stages else {}
    if name not in scores:
        raise DeftError(f"sweep.score is {name!r}: choose one of the scores of the run, {', '.join(scores) or 'none'}.")
    return float(scores[name])

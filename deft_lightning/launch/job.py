"""What Hydra calls: one task, such as training, alone or as a job of a sweep.

Launchers send a `Job` to other processes; importing this module there registers the resolvers of conf/, and quietens
Hydra.
"""

from __future__ import annotations

import logging
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from deft_lightning.common import console, results
from deft_lightning.common.errors import DeftError
from deft_lightning.launch import sweep
from deft_lightning.training import record, run_folder

log = logging.getLogger(__name__)

Task = Callable[[DictConfig, Path], object]

OmegaConf.register_new_resolver("run_folder", run_folder.choose, use_cache=True, replace=True)
OmegaConf.register_new_resolver("job_folder", sweep.job_folder, replace=True)
# The launchers' configurations here replace those that the plugins register under the same names.
warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/\w+' is validated against ConfigStore schema")


class Job:
    """`task` with the guards that every run needs: a mistake is one sentence, and a sweep survives it."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def __call__(self, cfg: DictConfig) -> float | None:
        """Do the task in the folder that Hydra has made; in a sweep, return the score `sweep.score`, if asked for."""

        console.quieten()
        hydra = HydraConfig.get()
        folder = Path(hydra.runtime.output_dir)
        if not OmegaConf.is_missing(hydra.job, "num"):
            cfg.sweep.overrides = sweep.as_written(hydra.overrides.task)
            return self._unless_taken(cfg, folder)
        try:
            if cfg.sweep.resume is not False:
                raise DeftError("sweep.resume is for sweeps: add --multirun, or go on with one run by resume=true.")
            if any(key.startswith("+experiment") for key in hydra.sweeper.get("params") or {}):
                raise DeftError(f"{cfg.name} is a sweep over experiments and no run by itself: add --multirun.")
            self.task(cfg, folder)
        except DeftError as error:
            run_folder.remove_unused(folder)
            sys.exit(f"error: {error}")
        return None

    def _unless_taken(self, cfg: DictConfig, folder: Path) -> float | None:
        """A job of a sweep, unless another process is at it: several may go through one sweep together."""
        try:
            with sweep.lock(folder):
                return self._in_sweep(cfg, folder)
        except filelock.Timeout:
            log.info("%s: another process is at it.", folder.name)
            return None

    def _in_sweep(self, cfg: DictConfig, folder: Path) -> float | None:
        """Go on with what is in the folder, or begin; a failure is kept in results.json, and the other jobs go on.

        What is found in the folder is this job's own, as the sweep has seen to it: from before the sweep was resumed,
        or before a cluster took the machine away and queued the job again.
        """
        from deft_lightning.common.errors import Interrupted  # noqa: PLC0415

        try:
            known = results.read(folder)
            if known.get("status") == "finished":
                log.info("%s is finished.", folder.name)
            else:
                cfg.resume = _prepare(folder, known)
                self.task(cfg, folder)
        except Interrupted as error:  # the sweep ends here: its user asked for it, or its cluster
            if error.signal == signal.SIGUSR2:
                signal.raise_signal(signal.SIGUSR2)  # the launcher's own handler queues the job again
            sys.exit(f"error: {error}")
        except Exception as error:
            _record(folder, error, name=str(cfg.name), seed=cfg.seed, sweep=record.membership(cfg))
            return None
        try:
            return _score(folder, cfg.sweep.score)
        except DeftError as error:  # the run itself has finished, and stays so
            print(f"error: {folder.name}: {error}", file=sys.stderr)
            return None


def _prepare(folder: Path, known: dict[str, Any]) -> bool:
    """Whether the unfinished run in the folder, with the results `known`, can be gone on with; else it begins anew."""
    if "training" in known:
        run_folder.set_damaged_aside(folder)
        return True
    if known:  # it never came to its settings
        (folder / results.FILE).unlink()
    return False


def _record(folder: Path, error: Exception, **header: Any) -> None:
    """Say why the job failed: one sentence on the screen and in results.json; what nobody foresaw goes to the log."""
    reason = str(error) if isinstance(error, DeftError) else f"{type(error).__name__}: {error}".strip()
    if not isinstance(error, DeftError):
        log.exception("%s failed", folder.name)
    print(f"error: {folder.name}: {reason}", file=sys.stderr)
    try:
        results.update(folder, status="failed", reason=reason, **header)
    except (DeftError, OSError, TypeError) as problem:
        log.warning("results.json in %s could not be updated: %s", folder, problem)


def _score(folder: Path, name: str | None) -> float | None:
    """The score that a sweeper maximises, of the last stage. Raises `DeftError` when the run has no such score."""
    if name is None:
        return None
    scores = list(results.read(folder)["stages"].values())[-1]["scores"]
    if name not in scores:
        raise DeftError(
            f"sweep.score is {name!r}, and the run was scored for {', '.join(scores)}: choose one of these."
        )
    return float(scores[name])

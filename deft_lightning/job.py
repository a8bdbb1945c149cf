"""Hydra's task: one run, alone or as a job of a sweep.

Launchers send `job` to other processes by name; importing this module there registers the resolvers of conf/.
"""

from __future__ import annotations

import logging
import signal
import sys
from pathlib import Path
from typing import Any

import filelock
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from deft_lightning import results, run_folder, sweep
from deft_lightning.errors import DeftError

log = logging.getLogger(__name__)

OmegaConf.register_new_resolver("run_folder", run_folder.choose, use_cache=True, replace=True)
OmegaConf.register_new_resolver("job_folder", sweep.job_folder, replace=True)


def job(cfg: DictConfig) -> float | None:
    """Train in the folder that Hydra has made; a job of a sweep returns the score `sweep.score`, if it has one."""
    # --help, --cfg and tab completion need no torch.
    from deft_lightning import run  # noqa: PLC0415

    run.quieten()
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    if not OmegaConf.is_missing(hydra.job, "num"):
        return _guarded(cfg, folder, list(hydra.overrides.task))
    try:
        if cfg.sweep.resume is not False:
            raise DeftError("sweep.resume is for sweeps: add --multirun, or go on with one run by resume=true.")
        run.train(cfg, folder)
    except DeftError as error:
        run_folder.remove_unused(folder)
        sys.exit(f"error: {error}")
    return None


def _guarded(cfg: DictConfig, folder: Path, overrides: list[str]) -> float | None:
    """The job, unless another process is at it: several may go through one sweep together."""
    try:
        with filelock.FileLock(folder / ".lock").acquire(timeout=0):
            return _job_of_sweep(cfg, folder, overrides)
    except filelock.Timeout:
        log.info("%s: another process is at it.", folder.name)
        return None


def _job_of_sweep(cfg: DictConfig, folder: Path, overrides: list[str]) -> float | None:
    """Train, or go on with what is in the folder; a failure is kept in results.json, and the other jobs go on.

    The sweep itself has made sure that the folder is of this sweep, so what is found there is this job's own: from
    before the sweep was resumed, or before a cluster took the machine away and queued the job again.
    """
    from deft_lightning import run  # noqa: PLC0415
    from deft_lightning.callbacks.checkpoints import Interrupted  # noqa: PLC0415

    member = {"name": folder.parent.name, "overrides": overrides}
    try:
        known = results.read(folder)
        if known.get("status") != "finished":
            if known and "training" not in known:  # it never came to its settings
                (folder / results.FILE).unlink()
                known = {}
            cfg.resume = bool(known)
            if known:
                run_folder.set_damaged_aside(folder)
            known = run.train(cfg, folder, sweep=member)
        else:
            log.info("%s is finished.", folder.name)
        return _score(known, cfg.sweep.score)
    except Interrupted as error:  # the sweep ends here: its user asked for it, or its cluster
        if error.signal == signal.SIGUSR2:
            signal.raise_signal(signal.SIGUSR2)  # the launcher's own handler queues the job again
        sys.exit(f"error: {error}")
    except Exception as error:
        _record(folder, error, name=str(cfg.name), seed=cfg.seed, sweep=member)
        return None


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


def _score(known: dict[str, Any], name: str | None) -> float | None:
    """The score that a sweeper maximises, of the last stage. Raises `DeftError` when the run has no such score."""
    if name is None:
        return None
    scores = list(known["stages"].values())[-1]["scores"]
    if name not in scores:
        raise DeftError(f"sweep.score is {name!r}, and the run was scored for {', '.join(scores)}: choose one of these.")
    return float(scores[name])

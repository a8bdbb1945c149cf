"""The frame around a run: its folder, its settings, and in results.json when its sessions began and why it ended."""

from __future__ import annotations

import gc
import logging
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from deft_lightning.common import console, memory, results
from deft_lightning.common.errors import DeftError
from deft_lightning.common.method import Method
from deft_lightning.common.results import Status
from deft_lightning.training import own_code, run_folder

if TYPE_CHECKING:  # no torch for those who only look at a run folder
    from deft_lightning.data.base import FactorDataset

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Session:
    """One session of a run: `run_id` is the same in all of them, `checkpoint` is the one to resume from, if any."""

    run_id: str
    checkpoint: Path | None


@contextmanager
def recorded(
    cfg: DictConfig, folder: Path, training: dict[str, Any], method: Method, whole: DictConfig | None = None
) -> Iterator[Session]:
    """Check the folder, write config.yaml and the header of results.json, and afterwards how the run ended.

    `training` are the settings that a resumed run must have again; `whole` is what config.yaml holds where that is
    more than `cfg`. Raises `DeftError` as `run_folder.checkpoint_to_resume` does, before anything is written, and
    passes on what the block raises.
    """
    checkpoint = run_folder.checkpoint_to_resume(folder, training, resume=bool(cfg.resume))
    run_folder.write_config(folder, cfg if whole is None else whole)
    previous = results.read(folder)
    sources, sessions = own_code.sources(cfg), [_session()]
    if checkpoint is not None:
        own_code.warn_of_changes(previous.get("own_code", {}), sources)
        sources |= previous.get("own_code", {})
        sessions = _sessions_of(previous) + sessions
        _warn_of_other_code(sessions)
    run_id = previous.get("run_id") or uuid.uuid4().hex[:8]
    sweep = membership(cfg) or previous.get("sweep")  # a job of a sweep may be resumed by itself
    header = _header(cfg, training, run_id, method)
    results.update(folder, **header, **sessions[0], sessions=sessions, own_code=sources, sweep=sweep)
    try:
        yield Session(run_id, checkpoint)
        results.update(folder, status=Status.FINISHED, reason=None)
    except BaseException as error:
        _record_end(folder, error)
        raise
    finally:
        gc.collect()  # trainer and module refer to each other and to the data: free them before a sweep's next job
        memory.trim()


def _header(cfg: DictConfig, training: dict[str, Any], run_id: str, method: Method) -> dict[str, Any]:
    """What results.json says of a run before it begins."""
    return {
        "status": Status.STARTING,
        "reason": None,
        "name": cfg.name,
        "method": method.record(),
        "seed": cfg.seed,
        "run_id": run_id,
        "config_digest": results.digest(training),
        "training": training,
    }


def _session() -> dict[str, Any]:
    """When this session of a run has started, by which command, and with which code."""
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": console.command_line(),
        "git_commit": results.git_commit(),
        "versions": results.versions(),
    }


def _sessions_of(previous: dict[str, Any]) -> list[dict[str, Any]]:
    """The earlier sessions of a run; of one by an earlier version of this package, the latest of them."""
    fields = ("started", "command", "git_commit", "versions")
    return previous.get("sessions") or [{key: previous.get(key) for key in fields}]


def _warn_of_other_code(sessions: list[dict[str, Any]]) -> None:
    """Say what differs between the code with which a run began and that with which it goes on."""
    began, now = ({"commit": s["git_commit"], **(s["versions"] or {})} for s in (sessions[0], sessions[-1]))
    differ = [f"{name} {began[name]}, now {now.get(name)}" for name in began if began[name] != now.get(name)]
    if differ:
        log.warning("This run began with %s: it may go on with other numbers.", "; ".join(differ))


def _record_end(folder: Path, error: BaseException) -> None:
    """Write why the run ended; a file that cannot be written does not hide the error itself."""
    try:
        results.record_end(folder, error)
    except (DeftError, OSError):
        log.warning("results.json in %s could not be updated.", folder)


def require_same_data(folder: Path, dataset: FactorDataset) -> None:
    """Raise `DeftError` if source or digest of the data differ from those recorded in `folder` when its run started."""
    recorded_data = results.read(folder).get("data", {})
    for key, value in dataset.provenance.items():
        if recorded_data.get(key, value) != value:
            raise DeftError(
                f"the run in {folder} began on images whose {key} is {recorded_data[key]}, and now it is {value}: "
                "restore the data it began on, or start a new run."
            )


def membership(cfg: DictConfig) -> dict[str, Any] | None:
    """What results.json keeps of the sweep that a run is a job of: its name, and the job's overrides."""
    if cfg.sweep.overrides is None:
        return None
    return {"name": cfg.sweep.name, "overrides": list(cfg.sweep.overrides)}

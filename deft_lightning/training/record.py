"""What results.json says of a run: when it begins, and why it ended."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from deft_lightning.common import results
from deft_lightning.common.errors import DeftError, Interrupted
from deft_lightning.data.base import FactorDataset

log = logging.getLogger(__name__)


def header(cfg: DictConfig, training: dict[str, Any], run_id: str, method: str) -> dict[str, Any]:
    """What results.json says of a run before it begins."""
    return {
        "status": "starting",
        "reason": None,
        "name": cfg.name,
        "method": method,
        "seed": cfg.seed,
        "run_id": run_id,
        "config_digest": results.digest(training),
        "training": training,
        "versions": results.versions(),
        "git_commit": results.git_commit(),
        "command": " ".join(sys.argv),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "sweep": membership(cfg),
    }


def check_same_pixels(folder: Path, dataset: FactorDataset, resumed: bool) -> None:
    """A file that was prepared since the run began must not change the data under it."""
    before = results.read(folder).get("data", {})
    for key, value in dataset.provenance.items():
        if resumed and before.get(key, value) != value:
            raise DeftError(
                f"the run in {folder} began on images whose {key} is {before[key]}, and now it is {value}: put back "
                "what it began on, or start a new run."
            )


def record_failure(folder: Path, error: BaseException) -> None:
    """Say in results.json why the run ended, unless the callbacks have; never hide the error itself."""
    try:
        if results.read(folder).get("status") in ("starting", "running"):
            status = "interrupted" if isinstance(error, KeyboardInterrupt | Interrupted) else "failed"
            results.update(folder, status=status, reason=str(error) or type(error).__name__)
    except (DeftError, OSError):
        log.warning("results.json in %s could not be updated.", folder)


def membership(cfg: DictConfig) -> dict[str, Any] | None:
    """What results.json keeps of the sweep that a run is a job of: its name, and the job's overrides."""
    if cfg.sweep.overrides is None:
        return None
    return {"name": cfg.sweep.name, "overrides": list(cfg.sweep.overrides)}

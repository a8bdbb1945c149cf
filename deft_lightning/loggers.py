"""Where numbers go: metrics.csv always, Weights & Biases when it is installed and asked for."""

from __future__ import annotations

import csv
import importlib.util
import logging
import os
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter

log = logging.getLogger(__name__)


class ResumableCSVLogger(CSVLogger):
    """metrics.csv in `folder` itself; the rows before `first_step` of an earlier session are kept."""

    def __init__(self, folder: str | Path, first_step: int = 0) -> None:
        super().__init__(save_dir=str(folder), name="", version="")
        self._kept = _rows_before(Path(folder) / "metrics.csv", first_step)

    @property
    def experiment(self) -> ExperimentWriter:
        """Lightning's writer begins a new file; it is given the old rows first."""
        fresh = self._experiment is None
        if fresh:
            Path(self.log_dir, "metrics.csv").unlink(missing_ok=True)  # its rows are in memory
        writer = super().experiment
        if fresh and self._kept:
            writer.metrics = [*self._kept, *writer.metrics]
            writer.save()
        return writer


def make_loggers(
    folder: Path,
    wandb: dict[str, Any] | None,
    name: str,
    run_id: str,
    config: dict[str, Any],
    first_step: int,
) -> list[Logger]:
    """The loggers of a run in `folder`, which has taken `first_step` steps.

    `wandb` holds project, entity, group and tags; None is no W&B. A run keeps `run_id` when it is resumed.
    """
    loggers: list[Logger] = [ResumableCSVLogger(folder, first_step)]
    if not wandb:
        return loggers
    if importlib.util.find_spec("wandb") is None:
        log.info("W&B is not installed: logging to metrics.csv alone (pip install wandb, or logger=csv).")
        return loggers
    from wandb import Settings  # noqa: PLC0415  # optional, and slow to import

    offline = wandb_is_offline()
    if offline:
        log.info("W&B: no API key found, logging offline; wandb sync %s/wandb/offline-run-* uploads it.", folder)
    loggers.append(
        WandbLogger(
            name=name,
            save_dir=str(folder),
            id=run_id,
            mode="offline" if offline else "online",
            config=config,
            # Quiet, and without a copy of the console: the progress bar would be thousands of lines of it.
            settings=Settings(silent=True, console="off"),
            **wandb,
        )
    )
    return loggers


def wandb_is_offline() -> bool:
    """Whether W&B runs offline: WANDB_MODE decides where it is set, else whether an API key is configured."""
    mode = os.environ.get("WANDB_MODE")
    if mode:
        return mode != "online"
    import wandb  # noqa: PLC0415  # optional, and slow to import

    return not wandb.login(prompt=False)


def finish_wandb(failed: bool) -> None:
    """Close the W&B run, if there is one; called however a run ends."""
    if importlib.util.find_spec("wandb") is None:
        return
    import wandb  # noqa: PLC0415  # optional, and slow to import

    if wandb.run is not None:
        wandb.finish(exit_code=int(failed))


def _rows_before(path: Path, first_step: int) -> list[dict[str, Any]]:
    if first_step == 0 or not path.is_file():
        return []
    with path.open(newline="") as file:
        return [
            {key: value for key, value in row.items() if key and value != ""}
            for row in csv.DictReader(file)
            if row.get("step") and int(float(row["step"])) <= first_step
        ]

"""The loggers of a run: metrics.csv always, Weights & Biases or TensorBoard where they are chosen."""

from __future__ import annotations

import csv
import importlib.util
import io
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter
from pytorch_lightning.loggers.logger import rank_zero_experiment

from deft_lightning.common import files
from deft_lightning.common.errors import DeftError, first_line
from deft_lightning.training import wandb_server

log = logging.getLogger(__name__)


class ResumableCSVLogger(CSVLogger):
    """Writes metrics.csv to `folder`; keeps what an earlier session logged in the first `first_step` steps."""

    def __init__(self, folder: str | Path, first_step: int = 0) -> None:
        super().__init__(save_dir=str(folder), name="", version="")
        self._first_step = first_step
        self._writer: _Writer | None = None

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        """The writer of metrics.csv, made when it is first needed."""
        if self._writer is None:
            Path(self.log_dir).mkdir(parents=True, exist_ok=True)
            self._writer = self._experiment = _Writer(self.log_dir, self._first_step)
        return self._writer


class _Writer(ExperimentWriter):
    """Lightning's writer, except that it keeps old rows and replaces the file whole when the header changes."""

    def __init__(self, folder: str, first_step: int) -> None:
        super().__init__(folder)
        path = Path(self.metrics_file_path)
        kept = _rows_until(path, first_step)
        self.metrics_keys = sorted({key for row in kept for key in row})
        if kept:
            self._replace(kept, self.metrics_keys)
        else:
            path.unlink(missing_ok=True)

    def _check_log_dir_exists(self) -> None:
        """Does nothing: Lightning deletes an older metrics.csv here."""

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        with Path(self.metrics_file_path).open(newline="") as file:
            rows = list(csv.DictReader(file))
        self._replace(rows, fieldnames)

    def _replace(self, rows: list[dict[str, Any]], fieldnames: list[str]) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, fieldnames)
        writer.writeheader()
        writer.writerows(rows)
        files.write_text(Path(self.metrics_file_path), text.getvalue())


class TensorBoardPictures(TensorBoardLogger):
    """TensorBoard's files in tensorboard/ of a run folder, which take pictures as the W&B logger does.

    What an earlier session logged after its first `first_step` steps is not shown.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        super().__init__(folder, name="", version="tensorboard", default_hp_metric=False, purge_step=first_step or None)

    def log_image(self, key: str, images: list[Any], step: int) -> None:
        """Log pictures, each a path or a PIL image, under `key`."""
        for picture in images:
            image = picture if isinstance(picture, Image.Image) else Image.open(picture)
            self.experiment.add_image(key, np.asarray(image.convert("RGB")), step, dataformats="HWC")


def make_loggers(
    folder: Path,
    chosen: dict[str, Any],
    name: str,
    run_id: str,
    config: dict[str, Any],
    first_step: int,
) -> list[Logger]:
    """The loggers of a run in `folder`, which has taken `first_step` steps.

    Args:
        folder: the run folder.
        chosen: the `logger` part of a configuration: `wandb` holds project, entity, group and tags, or None for no W&B;
            `tensorboard` is true for TensorBoard.
        name: of the W&B run.
        run_id: of the W&B run; a resumed run has the same.
        config: the whole configuration, for W&B.
        first_step: steps that earlier sessions have taken.

    Raises:
        DeftError: for TensorBoard where it is not installed.
    """
    loggers: list[Logger] = [ResumableCSVLogger(folder, first_step)]
    if chosen.get("tensorboard"):
        if importlib.util.find_spec("tensorboard") is None:
            raise DeftError("tensorboard is not installed: pip install 'deft-lightning[tensorboard]', or logger=csv.")
        loggers.append(TensorBoardPictures(folder, first_step))
    wandb = chosen.get("wandb")
    if not wandb:
        return loggers
    if importlib.util.find_spec("wandb") is None:
        log.info("W&B is not installed: logging to metrics.csv only (pip install wandb, or choose logger=csv).")
        return loggers
    if os.environ.get("WANDB_MODE") == "disabled":
        return loggers
    from wandb import Error as WandbError  # noqa: PLC0415  # optional, and slow to import
    from wandb import Settings  # noqa: PLC0415

    offline = wandb_server.is_offline()
    if offline:
        log.info("W&B: no API key found, logging offline; `wandb sync %s/wandb/offline-run-*` uploads the run.", folder)

    def start(mode: str) -> WandbLogger:
        # No copy of the console: the progress bar would fill thousands of lines.
        settings = Settings(silent=True, console="off", init_timeout=60)
        logger = WandbLogger(
            name=name, save_dir=str(folder), id=run_id, mode=mode, config=config, settings=settings, **wandb
        )
        # Lightning passes `anonymous` even where it is not set, and wandb warns that it has no effect.
        options = getattr(logger, "_wandb_init", {})
        if options.get("anonymous") is None:
            options.pop("anonymous", None)
        _ = logger.experiment  # starts the W&B run
        return logger

    if not offline:
        try:
            return [*loggers, start("online")]
        except WandbError as error:
            log.warning("W&B cannot be reached (%s): logging offline.", first_line(error))
    return [*loggers, start("offline")]


def _rows_until(path: Path, first_step: int) -> list[dict[str, Any]]:
    """The rows of the first `first_step` steps.

    Scores after the last of them have the same step number as losses of the next step, which are dropped. Raises
    `DeftError` when the file is damaged.
    """
    if first_step == 0 or not path.is_file():
        return []
    kept = []
    try:
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                cells = {key: value for key, value in row.items() if key and value}
                if "step" not in cells:  # incomplete, since the earlier session was killed
                    continue
                step = int(float(cells["step"]))
                of_next_step = any(key == "stage" or key.startswith("train/") for key in cells)
                if step < first_step or (step == first_step and not of_next_step):
                    kept.append(cells)
    except (OSError, ValueError, OverflowError, csv.Error) as error:
        raise DeftError(f"{path} is damaged: restore it, or move it away to go on without its rows.") from error
    return kept

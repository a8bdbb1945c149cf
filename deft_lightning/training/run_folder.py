"""The folder of a run: a new one, or that of a run to resume."""

from __future__ import annotations

import logging
import re
import time
from itertools import chain, count
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from deft_lightning.common import defaults, files, results
from deft_lightning.common.errors import DeftError
from deft_lightning.common.results import Status
from deft_lightning.training.config import TRAINING_KEYS, differences

log = logging.getLogger(__name__)

OUTPUTS = Path("outputs")
CONFIG = "config.yaml"
NOTHING_TO_RESUME = "nothing-to-resume"


def choose(name: str, seed: int, resume: bool | str) -> str:
    """Hydra's `run_folder` resolver: outputs/<name>/<time>_seed<seed>, or with `resume` the folder of that run.

    resume=true takes the latest unfinished run of this name and seed. Whether the folder can be used is checked later,
    in `checkpoint_to_resume`: a resolver cannot end in a sentence.
    """
    name = str(name)  # one that is not a word is refused later, with a sentence
    if isinstance(resume, str):
        return resume
    if resume:
        pattern = re.compile(rf".*_seed{seed}(_\d+)?")
        folders = [folder for folder in OUTPUTS.glob(f"{name}/*") if pattern.fullmatch(folder.name)]
        unfinished = [folder for folder in folders if (status := results.status(folder)) and not status.final]
        if unfinished:  # one that has taken steps before one that has not, then the latest
            return str(max(unfinished, key=lambda folder: (last_checkpoint(folder).exists(), folder.name)))
        return str(OUTPUTS / name / NOTHING_TO_RESUME)
    fresh = OUTPUTS / name / f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_seed{seed}"
    twins = (fresh.with_name(f"{fresh.name}_{number}") for number in count(2))
    return str(next(folder for folder in chain([fresh], twins) if not folder.exists()))


def checkpoint_to_resume(folder: Path, training: dict[str, Any], resume: bool) -> Path | None:
    """The checkpoint that the run in `folder` resumes from, None for a new run. Nothing is written.

    `training` are the settings that decide the weights. Raises `DeftError` when a new run would land in another's
    folder, when there is no run to resume, when it is finished or has diverged, or when it was started with other
    settings.
    """
    previous = results.read(folder)
    if not resume:
        if previous:
            raise DeftError(f"{folder} already holds a run: add resume=true to continue it, or choose another folder.")
        return None
    if not previous:
        if folder.name == NOTHING_TO_RESUME:
            raise DeftError(
                f"there is no unfinished run of this name and seed under {folder.parent}: start one without resume, "
                "or give resume=<run folder>."
            )
        raise DeftError(f"{folder} holds no run to resume: give the folder that has its results.json.")
    if previous.get("status") == Status.FINISHED:
        raise DeftError(f"the run in {folder} is finished: there is nothing to resume.")
    if previous.get("status") == Status.DIVERGED:
        raise DeftError(
            f"the run in {folder} has diverged, and would again: start a new run with a lower lr, or look at the data."
        )
    changed = differences(defaults.completed(previous.get("training", {})), training)
    if changed:
        raise DeftError(
            f"the run in {folder} was started with other settings ({'; '.join(changed)}): resume it with the same, "
            "or start a new run."
        )
    checkpoint = last_checkpoint(folder)
    return checkpoint if checkpoint.exists() else None


def write_config(folder: Path, cfg: Any) -> None:
    """config.yaml: the whole configuration, resolved. Raises `DeftError` when the folder cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "checkpoints").mkdir(exist_ok=True)
        files.write_text(folder / CONFIG, OmegaConf.to_yaml(cfg, resolve=True))
    except OSError as error:
        raise DeftError(
            f"the run folder {folder} cannot be written ({error}): choose another with hydra.run.dir=<folder>."
        ) from error


def read_config(folder: Path) -> DictConfig:
    """The configuration of a run, as its folder holds it. Raises `DeftError` when the file is damaged."""
    path = folder / CONFIG
    try:
        cfg = OmegaConf.load(path)
    except (OSError, ValueError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise DeftError(f"{path} cannot be read: restore it from a copy of the run.") from error
    if isinstance(cfg, DictConfig) and "networks" in cfg:  # a run of an earlier version has no other choice to make
        for group in defaults.CHOICES:
            cfg.setdefault(group, defaults.content(group))
    if not isinstance(cfg, DictConfig) or (lacking := [key for key in TRAINING_KEYS if key not in cfg]):
        what = f"lacks {lacking[0]}" if isinstance(cfg, DictConfig) else "is no configuration"
        raise DeftError(f"{path} {what}: restore it from a copy of the run.")
    return cfg


def remove_unused(folder: Path) -> None:
    """Remove a folder that holds nothing but an empty log and a lock: Hydra makes it before anything can be checked."""
    contents = list(folder.iterdir())
    if all((path.suffix == ".log" or path.name == ".lock") and path.stat().st_size == 0 for path in contents):
        for path in contents:
            path.unlink()
        folder.rmdir()


def last_checkpoint(folder: Path) -> Path:
    """Where the run in `folder` keeps its latest checkpoint."""
    return folder / "checkpoints" / "last.ckpt"


def set_damaged_aside(folder: Path) -> None:
    """Rename a last.ckpt that cannot be read to damaged.ckpt, so that the run starts from the beginning."""
    from deft_lightning.model.checkpoint import read_checkpoint  # noqa: PLC0415  # needs torch

    path = last_checkpoint(folder)
    if not path.exists():
        return
    try:
        read_checkpoint(path)
    except DeftError as error:
        log.warning("%s It is kept as damaged.ckpt, and the run starts from the beginning.", error)
        path.replace(path.with_name("damaged.ckpt"))

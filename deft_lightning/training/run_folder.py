"""The folder of a run: a fresh one, or that of a run to go on with."""

from __future__ import annotations

import logging
import re
import time
from itertools import chain, count
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from deft_lightning.common import files, results
from deft_lightning.common.errors import DeftError
from deft_lightning.training.config import differences

log = logging.getLogger(__name__)

OUTPUTS = Path("outputs")
CONFIG = "config.yaml"
NOTHING_TO_RESUME = "nothing-to-resume"


def choose(name: str, seed: int, resume: bool | str) -> str:
    """Hydra's `run_folder` resolver: outputs/<name>/<time>_seed<seed>, or with `resume` the folder of that run.

    resume=true takes the latest unfinished run of this name and seed. Whether the folder can be used is
    checked later, in `claim`: a resolver has no good way to say a sentence.
    """
    name = str(name)  # one that is not a word is refused later, with a sentence
    if isinstance(resume, str):
        return resume
    if resume:
        ours = re.compile(rf".*_seed{seed}(_\d+)?")
        folders = [folder for folder in OUTPUTS.glob(f"{name}/*") if ours.fullmatch(folder.name)]
        unfinished = [folder for folder in folders if _status(folder) not in ("finished", None)]
        if unfinished:  # one that has taken steps before one that never came so far, then the latest
            return str(max(unfinished, key=lambda folder: (last_checkpoint(folder).exists(), folder.name)))
        return str(OUTPUTS / name / NOTHING_TO_RESUME)
    fresh = OUTPUTS / name / f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_seed{seed}"
    twins = (fresh.with_name(f"{fresh.name}_{number}") for number in count(2))
    return str(next(folder for folder in chain([fresh], twins) if not folder.exists()))


def claim(folder: Path, training: dict[str, Any], resume: bool) -> Path | None:
    """The checkpoint to go on from, None for a fresh run. Nothing is written.

    `training` is what decides the weights. Raises `DeftError` when a fresh run would land on another's folder,
    when there is no run to resume, when it is finished, or when it was started with other settings.
    """
    known = results.read(folder)
    if not resume:
        if known:
            raise DeftError(
                f"{folder} already holds a run: add resume=true to go on with it, or choose another folder."
            )
        return None
    if not known:
        if folder.name == NOTHING_TO_RESUME:
            raise DeftError(
                f"there is no unfinished run of this name and seed under {folder.parent}: start one without resume, "
                "or give resume=<run folder>."
            )
        raise DeftError(f"{folder} holds no run to resume: give the folder that has its results.json.")
    if known.get("status") == "finished":
        raise DeftError(f"the run in {folder} is finished: there is nothing to resume.")
    changed = differences(known.get("training", {}), training)
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


def _status(folder: Path) -> str | None:
    try:
        return results.read(folder).get("status")
    except DeftError:
        return None


def remove_unused(folder: Path) -> None:
    """Take away a folder that holds nothing but an empty log: Hydra makes it before anything can be checked."""
    files = list(folder.iterdir())
    if all(path.suffix == ".log" and path.stat().st_size == 0 for path in files):
        for path in files:
            path.unlink()
        folder.rmdir()


def last_checkpoint(folder: Path) -> Path:
    """Where the run in `folder` keeps its latest checkpoint."""
    return folder / "checkpoints" / "last.ckpt"


def set_damaged_aside(folder: Path) -> None:
    """Rename a last.ckpt that cannot be read to damaged.ckpt: the run then begins anew."""
    from deft_lightning.model.checkpoint import read_checkpoint  # noqa: PLC0415  # needs torch

    path = last_checkpoint(folder)
    if not path.exists():
        return
    try:
        read_checkpoint(path)
    except DeftError as error:
        log.warning("%s It is kept as damaged.ckpt, and the run begins anew.", error)
        path.replace(path.with_name("damaged.ckpt"))

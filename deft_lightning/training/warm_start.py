"""Where a run starts that begins from another run's checkpoint: `init_from`, or stages that several runs share."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from deft_lightning.common import defaults, results
from deft_lightning.common.errors import DeftError
from deft_lightning.common.results import Status
from deft_lightning.data import cache
from deft_lightning.training import config, run_folder

Train = Callable[[DictConfig, Path], dict[str, Any]]


def checkpoint(cfg: DictConfig, train: Train) -> Path | None:
    """The checkpoint that a new run starts from; None where it starts with fresh weights.

    `cfg.init_from` is a checkpoint, or a run folder, whose last one is meant. `cfg.shared_stages` names stages that are
    trained once, with `train`, by whichever run needs them first. Raises `DeftError` when there is no such checkpoint,
    or when the shared stages were trained with other settings.
    """
    if cfg.shared_stages is not None:
        return _shared_stages(cfg, train)
    if cfg.init_from is None:
        return None
    path = Path(cfg.init_from).expanduser()
    return run_folder.last_checkpoint(path) if path.is_dir() else path


def _shared_stages(cfg: DictConfig, train: Train) -> Path:
    folder, stages = Path(str(cfg.shared_stages.folder)), cfg.shared_stages.stages
    first = deepcopy(cfg)
    OmegaConf.set_struct(first, False)
    first.update(shared_stages=None, name=f"{cfg.name}{results.SHARED_STAGES}")
    first.groups.gamma = cfg.shared_stages.gamma
    for field in ("epochs", "pressures"):
        first.schedule[field] = list(cfg.schedule[field])[:stages]
    with cache.lock(folder, "shared_stages.folder"):  # the other runs of a sweep wait for it
        previous = results.read(folder)
        if previous.get("status") == Status.FINISHED:
            training = config.training_part(first, config.build_choices(first).schedule)
            changed = config.differences(defaults.completed(previous["training"]), training)
            if changed:
                raise DeftError(
                    f"the shared stages in {folder} were trained with other settings ({'; '.join(changed)}): choose "
                    "another shared_stages.folder, or move that one away."
                )
        else:
            first.resume = bool(previous)
            train(first, folder)
    return folder / "checkpoints" / f"stage_{stages}.ckpt"


def check(cfg: DictConfig) -> None:
    """Raise `DeftError` unless `cfg.shared_stages` is null or names fewer stages than a piecewise schedule has."""
    shared = config.to_plain(cfg, "shared_stages")
    if shared is None:
        return
    if cfg.init_from is not None:
        raise DeftError("init_from and shared_stages both say where the run starts: give one of them.")
    if not isinstance(shared, dict) or set(shared) != {"stages", "gamma", "folder"}:
        raise DeftError(f"shared_stages is {shared!r}: give its stages, gamma and folder, or null.")
    schedule = config.to_plain(cfg, "schedule")
    lengths = schedule.get("epochs")
    if not isinstance(lengths, list) or not isinstance(schedule.get("pressures"), list):
        raise DeftError("shared_stages needs stages with given pressures: use schedule=piecewise or adaptive.")
    most = len(lengths) - 1
    if not isinstance(shared["stages"], int) or not 1 <= shared["stages"] <= most:
        raise DeftError(
            f"shared_stages.stages is {shared['stages']!r}: give the number of first stages to share, here 1 to {most}."
        )

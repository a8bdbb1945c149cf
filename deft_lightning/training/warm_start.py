"""Where a run begins that goes on from another run's checkpoint: `init_from`, or a trunk that many runs share."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from deft_lightning.common import results
from deft_lightning.common.errors import DeftError
from deft_lightning.data import cache
from deft_lightning.training import config, run_folder

Train = Callable[[DictConfig, Path], dict[str, Any]]


def starting_point(cfg: DictConfig, train: Train) -> Path | None:
    """The checkpoint that a fresh run branches from, None where it begins anew.

    `cfg.init_from` is a checkpoint, or a run folder, whose last one is meant. `cfg.trunk` names stages that are
    trained once, with `train`, by whichever run needs them first. Raises `DeftError` when both are given, when
    there is no such checkpoint, or when the trunk was trained with other settings.
    """
    if cfg.trunk is not None:
        if cfg.init_from is not None:
            raise DeftError("init_from and trunk both say where the run begins: give one of them.")
        return _trunk(cfg, train)
    if cfg.init_from is None:
        return None
    path = Path(cfg.init_from).expanduser()
    return run_folder.last_checkpoint(path) if path.is_dir() else path


def _trunk(cfg: DictConfig, train: Train) -> Path:
    folder, stages = Path(str(cfg.trunk.folder)), cfg.trunk.stages
    alone = deepcopy(cfg)
    OmegaConf.set_struct(alone, False)
    alone.update(trunk=None, name=f"{cfg.name}_trunk")
    alone.groups.gamma = cfg.trunk.gamma
    for field in ("epochs", "pressures"):
        alone.schedule[field] = list(cfg.schedule[field])[:stages]
    with cache.lock(folder):  # the other runs of a sweep wait for it
        known = results.read(folder)
        if known.get("status") == "finished":
            training = config.training_part(alone, config.check(alone).schedule)
            changed = config.differences(known["training"], training)
            if changed:
                raise DeftError(
                    f"the trunk in {folder} was trained with other settings ({'; '.join(changed)}): choose another "
                    "trunk.folder, or move that one away."
                )
        else:
            alone.resume = bool(known)
            train(alone, folder)
    return folder / "checkpoints" / f"stage_{stages}.ckpt"


def check_trunk(cfg: DictConfig) -> None:
    """Raise `DeftError` unless `cfg.trunk` is null or names fewer stages than a piecewise schedule has."""
    trunk = config.to_plain(cfg, "trunk")
    if trunk is None:
        return
    if not isinstance(trunk, dict) or set(trunk) != {"stages", "gamma", "folder"}:
        raise DeftError(f"trunk is {trunk!r}: give its stages, gamma and folder, or null.")
    lengths = config.to_plain(cfg, "schedule").get("epochs")
    most = len(lengths) - 1 if isinstance(lengths, list) else 0
    if not isinstance(trunk["stages"], int) or not 1 <= trunk["stages"] <= most:
        raise DeftError(
            f"trunk.stages is {trunk['stages']!r}: a trunk is the first of several piecewise stages, here 1 to {most}."
        )

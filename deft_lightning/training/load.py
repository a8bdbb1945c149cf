"""The trained model of a run folder, for use outside of training."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from deft_lightning.common import results
from deft_lightning.common.conf import choice_names
from deft_lightning.common.errors import DeftError
from deft_lightning.data.base import FactorDataset
from deft_lightning.data.datamodule import FactorDataModule
from deft_lightning.evaluation.codes import encoded_factors
from deft_lightning.model.inference import name_latents
from deft_lightning.model.module import DEFT
from deft_lightning.training import build, config, run_folder
from deft_lightning.training.record import require_same_data


def load_run(folder: str | Path, stage: int | None = None, trust: bool = False) -> tuple[DEFT, FactorDataModule]:
    """The model of a run in eval mode, and the data module that it was trained on.

    Arguments and errors are those of `load_model`; raises `DeftError` also where the images are not those of the
    training.
    """
    return load_model(folder, stage, trust), load_data(folder, trust)


def load_data(folder: str | Path, trust: bool = False, dataset: FactorDataset | None = None) -> FactorDataModule:
    """The data module that a run was trained on; `dataset` saves loading its data again.

    Raises `DeftError` where the images are not those of the training, or are of a class from outside this package and
    `trust` is false.
    """
    cfg = run_folder.read_config(Path(folder))
    foreign = [target for target in config.targets(config.to_plain(cfg, "data")) if target not in choice_names("data")]
    if foreign and not trust:
        raise DeftError(
            f"the data of {folder} are {foreign[0]}, which is not part of deft_lightning: add trust=True (in a command "
            "--trust) to import it, or use load_model, which needs no data."
        )
    data = build.data_module(cfg, dataset)
    require_same_data(Path(folder), data.dataset)
    return data


def load_model(folder: str | Path, stage: int | None = None, trust: bool = False) -> DEFT:
    """The model of a run in eval mode, with its `latent_names`; the data are not read.

    Args:
        folder: the run folder.
        stage: at the end of which the weights are taken, from 1; the latest weights by default.
        trust: whether to import classes from outside this package that the run uses.

    Raises:
        DeftError: where there is no run or no such stage, or as `DEFT.load_from_checkpoint` does.
    """
    folder = Path(folder)
    record = results.read(folder)
    if not record:
        raise DeftError(f"there is no run in {folder}: give the folder that has its results.json.")
    path = run_folder.last_checkpoint(folder)
    if stage is not None:
        path = path.with_name(f"stage_{stage}.ckpt")
        if not path.exists():
            ends = ", ".join(sorted(file.stem.removeprefix("stage_") for file in path.parent.glob("stage_*.ckpt")))
            raise DeftError(f"there is no stage {stage} in {folder}: it has {ends or 'none'}.")
    model = DEFT.load_from_checkpoint(path, trust=trust)
    measured = results.stage_of(record, stage)
    if "nmi" in measured:
        matrix, kl = np.array(measured["nmi"]), np.array(measured["kl_per_latent"])
        factors = encoded_factors(matrix, kl, record["data"]["factors"])
        model.latent_names = name_latents([name for name, _ in factors], len(kl))
    return model.eval()

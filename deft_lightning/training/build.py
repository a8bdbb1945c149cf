"""Module and data of a run, from its configuration."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from deft_lightning.common.errors import DeftError
from deft_lightning.data.base import FactorDataset
from deft_lightning.data.datamodule import FactorDataModule
from deft_lightning.model.checkpoint import read_checkpoint
from deft_lightning.model.module import DEFT
from deft_lightning.training import config, distributed


def build(
    cfg: DictConfig, choices: config.Choices, dataset: FactorDataset | None = None
) -> tuple[DEFT, FactorDataModule]:
    dataset = dataset or config.build(cfg, "data")
    assert dataset is not None
    data = FactorDataModule(dataset, cfg.batch_size, cfg.seed)
    module = DEFT(
        *choices,
        image_shape=dataset.shape,
        lr=cfg.lr,
        seed=cfg.seed,
        steps_per_epoch=len(dataset) // cfg.batch_size,
        compiled=cfg.compile and distributed.processes(cfg) == 1,  # what objectives gather does not compile
    )
    return module, data


def rebuild(cfg: DictConfig, checkpoint: Path, dataset: FactorDataset | None = None) -> tuple[DEFT, FactorDataModule]:
    """The module with the weights of `checkpoint`, and the data, of a run with configuration `cfg`.

    `dataset`, where it is loaded already, is taken instead of a second one. Raises `DeftError` when the checkpoint is
    damaged or of another model.
    """
    module, data = build(cfg, config.check(cfg), dataset)
    load_weights(module, checkpoint)
    return module.eval(), data


def load_weights(module: DEFT, checkpoint: Path) -> None:
    try:
        module.load_state_dict(read_checkpoint(checkpoint)["state_dict"])
    except (KeyError, RuntimeError) as error:
        raise DeftError(
            f"the checkpoint {checkpoint} is of another model than the configuration: give one with the same groups, "
            "objective and image channels."
        ) from error

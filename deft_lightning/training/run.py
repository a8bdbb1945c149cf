"""One run, read top to bottom: seed, data, module, trainer, fit, scores, results.json."""

from __future__ import annotations

import gc
import logging
import sys
import time
import uuid
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import rich
import torch
from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger

from deft_lightning import branch, config, distributed, loggers, memory, results, run_folder, screens, sweep
from deft_lightning.callbacks.checkpoints import Interrupted, read_checkpoint
from deft_lightning.data.base import FactorDataset
from deft_lightning.data.datamodule import FactorDataModule
from deft_lightning.errors import DeftError
from deft_lightning.module import DEFT

log = logging.getLogger(__name__)


def train(cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """Train what `cfg` says in the run folder `folder`, and return its results.

    Raises `DeftError` for everything a user can mend; results.json then holds the reason.
    """
    choices = config.check(cfg)
    branch.check_trunk(cfg)
    processes = distributed.processes(cfg)
    training = config.training_part(cfg, choices.schedule)
    own = run_folder.claim(folder, training, resume=bool(cfg.resume))
    if own is not None:
        read_checkpoint(own)  # a damaged one is refused before anything is written
    run_folder.write_config(folder, cfg)
    run_id = results.read(folder).get("run_id") or uuid.uuid4().hex[:8]
    results.update(folder, **header(cfg, training, run_id, cfg.method or choices.method))
    try:
        checkpoint = own or branch.starting_point(cfg, train)
        if processes == 1:
            _fit(cfg, folder, checkpoint, run_id, own is not None)
        else:
            distributed.fit(_fit, processes, cfg, folder, checkpoint, run_id, own is not None)
    except BaseException as error:
        record_failure(folder, error)
        raise
    finally:
        gc.collect()  # trainer and module refer to each other, and to the data: a sweep's next job loads its own
        memory.give_back()
    outcome = results.read(folder)
    screens.end(outcome, folder)
    return outcome


def _fit(cfg: DictConfig, folder: Path, checkpoint: Path | None, run_id: str, resumed: bool) -> None:
    """Data, module, trainer and fit, in each process of the run; the first of them writes."""
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    failed, main = True, distributed.is_main()
    try:
        first_step = 0 if checkpoint is None else int(read_checkpoint(checkpoint)["global_step"])
        choices = config.check(cfg)
        module, data = _build(cfg, choices)
        dataset = data.dataset
        choices.schedule.check(dataset.description)
        check_same_pixels(folder, dataset, resumed)
        if checkpoint is not None:
            _load_weights(module, checkpoint)
            if not resumed:
                _check_something_is_left(module, checkpoint, first_step)
            check_same_pixels(checkpoint.parent.parent, dataset, resumed=not resumed)
        run_loggers: list[Logger] = []
        if main:
            results.update(folder, data=dataset.description, boundaries=list(module.boundaries))
            wandb = config.to_plain(cfg, "logger")["wandb"]
            resolved = {key: config.to_plain(cfg, key) for key in map(str, cfg)}
            method = cfg.method or choices.method
            resolved |= {"method": method, "data_set": f"{dataset.name}, {dataset.source}"}  # W&B groups runs by these
            run_loggers = loggers.make_loggers(folder, wandb, folder.name, run_id, resolved, first_step)
        trainer = _trainer(cfg, folder, run_loggers, module.boundaries[-1])
        screens.start(cfg, module, dataset, trainer, folder, first_step)
        nothing_left = first_step == module.boundaries[-1]
        trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
        if nothing_left:  # killed after its last step, of which Lightning has nothing to say
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                callback.on_train_start(trainer, module)
                callback.on_train_end(trainer, module)
        failed = False
    finally:
        loggers.finish_wandb(failed)


def rebuild(cfg: DictConfig, checkpoint: Path, dataset: FactorDataset | None = None) -> tuple[DEFT, FactorDataModule]:
    """The module with the weights of `checkpoint`, and the data, of a run with configuration `cfg`.

    `dataset`, where it is loaded already, is taken instead of a second one. Raises `DeftError` when the checkpoint is
    damaged or of another model.
    """
    module, data = _build(cfg, config.check(cfg), dataset)
    _load_weights(module, checkpoint)
    return module.eval(), data


def _load_weights(module: DEFT, checkpoint: Path) -> None:
    try:
        module.load_state_dict(read_checkpoint(checkpoint)["state_dict"])
    except (KeyError, RuntimeError) as error:
        raise DeftError(
            f"the checkpoint {checkpoint} is of another model than the configuration: give one with the same groups, "
            "objective and image channels."
        ) from error


def _check_something_is_left(module: DEFT, checkpoint: Path, first_step: int) -> None:
    end = module.boundaries[-1]
    if first_step >= end:
        raise DeftError(
            f"{checkpoint} is at step {first_step:,} and the schedule ends at {end:,}: there is nothing left to train; "
            "lengthen the schedule."
        )


def quieten() -> None:
    """Leave the screen to what this package says: no tips, device notes or warnings meant for developers."""
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", module="lightning_fabric")
    warnings.filterwarnings("ignore", module="torch.*")
    if not rich.get_console().is_terminal:
        rich.reconfigure(width=160, soft_wrap=True)  # a log file has no width


def _build(
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


def _trainer(cfg: DictConfig, folder: Path, run_loggers: list[Any], max_steps: int) -> pl.Trainer:
    callbacks = [config.build(cfg.callbacks, name) for name in cfg.callbacks]
    return config.build(
        cfg,
        "trainer",
        default_root_dir=str(folder),
        callbacks=callbacks,
        logger=run_loggers,
        max_steps=max_steps,
        max_epochs=-1,
        enable_checkpointing=True,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


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
        "sweep": sweep.membership(cfg),
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

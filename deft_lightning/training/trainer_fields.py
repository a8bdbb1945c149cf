"""Fields of `pl.Trainer` that a run sets itself, or that would break its schedule: refused, each with what to set."""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf

from deft_lightning.common.errors import DeftError

LENGTH = "set schedule.epochs or scale.fraction, which decide how long a run is"
IMAGES = "set schedule.epochs or scale.fraction for a shorter run; an epoch of the schedule is all images"
SCORES = "set metrics and callbacks.scores, which decide how and when a run is scored; it has no validation loop"
BATCHES = "leave it out; a batch is a function of seed and step"

REFUSED = {
    "accumulate_grad_batches": "set batch_size; a step of the schedule is one batch",
    "callbacks": "set callbacks, as in ~callbacks.traversals or +callbacks.mine._target_=my_module.MyCallback",
    "check_val_every_n_epoch": SCORES,
    "default_root_dir": "set hydra.run.dir",
    "enable_checkpointing": "set callbacks.checkpoints.every_n_steps; a run always has a checkpoint to resume from",
    "enable_model_summary": "leave it out; a run prints a summary of its own",
    "limit_predict_batches": SCORES,
    "limit_test_batches": SCORES,
    "limit_train_batches": IMAGES,
    "limit_val_batches": SCORES,
    "logger": "set logger, as in logger=csv",
    "max_epochs": LENGTH,
    "max_steps": LENGTH,
    "min_epochs": LENGTH,
    "min_steps": LENGTH,
    "num_nodes": "set trainer.devices; a run is on one machine",
    "num_sanity_val_steps": SCORES,
    "overfit_batches": IMAGES,
    "reload_dataloaders_every_n_epochs": BATCHES,
    "use_distributed_sampler": BATCHES,
    "val_check_interval": SCORES,
}
"""What to do instead of setting each field."""


def check_trainer(trainer: DictConfig) -> None:
    """Raise `DeftError` for a field of `REFUSED` in the trainer's part of the configuration, whatever its value."""
    for field, advice in REFUSED.items():
        if field in trainer and not (field == "accumulate_grad_batches" and trainer[field] == 1):
            value = trainer[field]
            plain = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            raise DeftError(f"trainer.{field} is {plain!r}: {advice}.")

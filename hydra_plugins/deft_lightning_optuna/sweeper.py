"""The Optuna sweeper, in the place where Hydra accepts it."""

from __future__ import annotations

from deft_lightning.launch import optuna_sweeper


class OptunaSweeper(optuna_sweeper.OptunaSweeper):
    """See `deft_lightning.launch.optuna_sweeper`."""

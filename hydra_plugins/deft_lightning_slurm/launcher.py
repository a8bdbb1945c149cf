"""The launcher for Slurm, in the place where Hydra accepts it."""

from __future__ import annotations

from deft_lightning.launch import slurm


class SlurmLauncher(slurm.SlurmLauncher):
    """See `deft_lightning.launch.slurm`."""

"""The launcher of one process a job, in the place where Hydra accepts it."""

from __future__ import annotations

from deft_lightning.launch import processes


class ProcessLauncher(processes.ProcessLauncher):
    """See `deft_lightning.launch.processes`."""

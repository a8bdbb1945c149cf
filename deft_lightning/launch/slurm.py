"""Hydra launcher for Slurm: that of hydra-submitit-launcher, with several jobs of a sweep in one job of Slurm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from deft_lightning.common import checks
from deft_lightning.common.errors import DeftError

CPUS, MEMORY_GB, MEMORY_GB_OF_SEVERAL = 4, 16, 4
"""What "auto" asks of Slurm: for a single job, and in memory for each of several."""


class SlurmLauncher(Launcher):
    """Runs `jobs_per_gpu` jobs of the sweep on each GPU of a Slurm job, as `launch.processes` does on one machine.

    With one, each job of the sweep is a job of Slurm. `params` are those of hydra-submitit-launcher; `cpus_per_task`
    and `mem_gb` may be "auto". `mps`: see `launch.mps`.
    """

    def __init__(self, jobs_per_gpu: int = 1, mps: str | bool = "auto", **params: Any) -> None:
        self.jobs_per_gpu, self.mps, self.params = jobs_per_gpu, mps, params

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra hook: keep what `launch` needs."""
        self._arguments = {"hydra_context": hydra_context, "task_function": task_function, "config": config}

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Submit the jobs and wait for them. Raises `DeftError` for a wrong option, or without the plugin."""
        together = self._together()
        try:
            from deft_lightning.launch.slurm_groups import GroupLauncher, PlainLauncher  # noqa: PLC0415
        except ImportError as error:
            raise DeftError(
                "hydra_submitit_launcher is not installed: pip install 'deft-lightning[sweeps]'."
            ) from error
        launcher = PlainLauncher(**self._resources(together))
        if together > 1:
            launcher = GroupLauncher(self.mps, together, self._resources(together))
        launcher.setup(**self._arguments)
        return launcher.launch(job_overrides, initial_job_idx)

    def _together(self) -> int:
        """How many jobs of the sweep a job of Slurm runs at once."""
        each = checks.whole("hydra.launcher.jobs_per_gpu", self.jobs_per_gpu, 1)
        if each == 1:
            return 1
        for name in ("nodes", "tasks_per_node"):
            if (self.params.get(name) or 1) != 1:
                raise DeftError(f"hydra.launcher.{name} is {self.params[name]!r} with jobs_per_gpu={each}: use 1.")
        return each * checks.whole("hydra.launcher.gpus_per_node", self.params.get("gpus_per_node") or 1, 1)

    def _resources(self, together: int) -> dict[str, Any]:
        chosen = dict(self.params)
        auto = {"cpus_per_task": max(CPUS, together), "mem_gb": max(MEMORY_GB, MEMORY_GB_OF_SEVERAL * together)}
        return chosen | {name: value for name, value in auto.items() if chosen.get(name) == "auto"}

"""Jobs of Slurm that each run a group of the jobs of a sweep. Needs hydra-submitit-launcher."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Sequence
from itertools import chain
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, setup_globals
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher as PlainLauncher

from deft_lightning.launch.processes import ProcessLauncher

__all__ = ["GroupLauncher", "PlainLauncher"]

log = logging.getLogger(__name__)


class GroupLauncher(PlainLauncher):
    """Submits one job of Slurm for every `together` jobs of the sweep, which it runs at once as processes.

    Submitit sends this object to the cluster and calls it there, again when the job comes back from the queue.
    """

    hydra_context: Any

    def __init__(self, mps: str | bool, together: int, params: dict[str, Any]) -> None:
        super().__init__(**params)
        self.mps, self.together = mps, together
        self.groups: dict[int, list[list[str]]] = {}
        self.first = 0
        self.context = b""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Submit the groups and wait for them."""
        overrides = [list(job) for job in job_overrides]
        groups = [overrides[first : first + self.together] for first in range(0, len(overrides), self.together)]
        self.groups, self.first = dict(enumerate(groups)), initial_job_idx
        # On the cluster Hydra loads its plugins anew; the context must refer to these, to be sent on to the processes.
        self.context, self.hydra_context = pickle.dumps(self.hydra_context), None
        log.info("%d jobs in %d jobs of Slurm, %d in each", len(overrides), len(groups), self.together)
        # Submitit's launcher makes one job of Slurm of each element, numbered as here, and calls it with its number.
        returned: Sequence[Any] = super().launch([group[0] for group in groups], 0)
        return list(chain.from_iterable(returned))

    def __call__(  # type: ignore[override]
        self,
        sweep_overrides: list[str],
        job_dir_key: str,
        job_num: int,
        job_id: str,
        singleton_state: dict[type, Singleton],
    ) -> list[JobReturn]:
        """Run the group `job_num`, on the cluster."""
        assert self.config is not None
        assert self.task_function is not None
        Singleton.set_state(singleton_state)
        setup_globals()
        launcher = ProcessLauncher(n_jobs=self.together, mps=self.mps)
        context = pickle.loads(self.context)
        launcher.setup(hydra_context=context, task_function=self.task_function, config=self.config)
        return list(launcher.launch(self.groups[job_num], self.first + job_num * self.together))

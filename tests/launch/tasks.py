"""Jobs that train nothing, for tests of what happens to their processes. This module imports no torch: they start fast.

python -m tests.launch.tasks hydra/launcher=processes seed=0,1,2
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from omegaconf import DictConfig

from deft_lightning.common import results
from deft_lightning.common.results import Status
from deft_lightning.launch.cli import run_task


def work(cfg: DictConfig, folder: Path) -> None:
    """A job that records when it runs, on how many threads and which GPU, and whether it is resumed.

    As long as the working folder holds a file `trouble`, seed 1 is killed, seed 2 ends its process and seed 3 waits.
    """
    trouble = Path("trouble").exists()
    results.update(folder, status=Status.RUNNING, training={}, seed=cfg.seed, sweep={"name": cfg.sweep.name})
    results.update(folder, process=os.getpid(), threads=os.environ["OMP_NUM_THREADS"], begun=time.time())
    seen = {name: os.environ.get(f"CUDA_{name}") for name in ("VISIBLE_DEVICES", "MPS_PIPE_DIRECTORY")}
    results.update(folder, seen=seen, launcher=os.getppid(), steps=5, boundaries=[10, 2000])
    print(f"seed {cfg.seed} has begun")
    results.update(folder, resumed=cfg.resume)
    if trouble and cfg.seed == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if trouble and cfg.seed == 2:
        os._exit(3)
    time.sleep(60 if trouble and cfg.seed == 3 else 0.5)
    results.update(folder, status=Status.FINISHED, ended=time.time())


def main() -> None:
    """Run the sweep that the command line describes."""
    run_task(work)


if __name__ == "__main__":
    sys.argv.insert(1, "--multirun")
    main()

"""Jobs a minute of a sweep on this machine: one job at a time, or two at once with one or two threads each.

python benchmarks/sweep_threads.py --jobs 6 --fraction 0.002

Each setup trains the same jobs, DEFT on Color dSprites, for the same number of steps. The time is that of the whole
command, with process start and data loading. Keep the machine quiet.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
SETUPS = {
    "one job, 1 thread": ("threads=1",),
    "one job, 2 threads": ("threads=2",),
    "two jobs, 1 thread each": (*JOBLIB, "threads=1"),
    "two jobs, 2 threads each": (*JOBLIB, "threads=2"),
}


def sweep(folder: Path, jobs: int, fraction: float, setup: tuple[str, ...]) -> float:
    """Seconds that a sweep of `jobs` seeds takes, with a `fraction` of the paper's steps."""
    overrides = ("+experiment=color_dsprites", "scale=smoke", f"scale.fraction={fraction}", "trainer=cpu", "logger=csv")
    without = ("~callbacks.traversals", "~callbacks.nmi_matrix", "~callbacks.kl_decomposition")
    seeds = f"seed=range({jobs})"
    command = [sys.executable, "-m", "deft_lightning", "--multirun", *overrides, *without, seeds, *setup]
    root = Path(__file__).resolve().parents[1]
    path = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"} | {"PYTHONPATH": path}
    begin = time.perf_counter()
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def main() -> None:
    """Measure every setup and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=6, help="jobs in each sweep")
    parser.add_argument("--fraction", type=float, default=0.002, help="fraction of the paper's steps")
    parser.add_argument("--rounds", type=int, default=1, help="measurements of each setup")
    options = parser.parse_args()
    seconds = dict.fromkeys(SETUPS, 0.0)
    for round_ in range(options.rounds + 1):
        for name, setup in SETUPS.items():
            with tempfile.TemporaryDirectory() as folder:
                if round_ == 0:  # warm up: render the data and read every file once
                    sweep(Path(folder), 1, 0.0001, setup)
                else:
                    seconds[name] += sweep(Path(folder), options.jobs, options.fraction, setup)
    for name, total in seconds.items():
        print(f"{name:26s} {60 * options.jobs * options.rounds / total:6.2f} jobs a minute")


if __name__ == "__main__":
    main()

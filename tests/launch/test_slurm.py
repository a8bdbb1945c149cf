"""Several jobs of a sweep in one job of Slurm, with stand-ins for the programs of Slurm and NVIDIA."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

from deft_lightning.launch.sweep import jobs
from tests.launch import tasks
from tests.launch.running import QUICK, sweep
from tests.launch.stand_ins import Machine, machine
from tests.launch.test_launchers import needs_submitit
from tests.launch.test_processes import elsewhere, wait_until

__all__ = ["elsewhere", "machine"]

FOLDER = Path("multirun_outputs/mine")
SLURM = ("hydra/launcher=submitit_slurm", "sweep.name=mine")

SBATCH = """#!/bin/sh
cp "$1" {tools}/script
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\)%.*/\\1/p' "$1")
for task in $(seq 0 "$last"); do
    SLURM_JOB_ID=$((8 + task)) SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=$task sh {tools}/script >/dev/null 2>&1 &
done
echo "Submitted batch job 7"
"""
SRUN = """#!/bin/sh
shift 5  # --unbuffered --output FILE --error FILE
exec "$@" >>{tools}/log_$SLURM_ARRAY_TASK_ID 2>&1
"""
REQUEUE = """#!/bin/sh
echo "$@" >>{tools}/requeued
rm -f trouble
sh {tools}/script >/dev/null 2>&1 &
"""


def cluster(machine: Machine, sbatch: str = SBATCH) -> None:
    """Let Slurm run the tasks of a job array here, and again when they return to the queue."""
    for name, script in {"sbatch": sbatch, "srun": SRUN, "scontrol": REQUEUE, "sacct": "#!/bin/sh\n"}.items():
        machine.program(name, script.format(tools=machine.tools))


REFUSED = '#!/bin/sh\ncp "$1" {tools}/script\necho "no room" >&2\nexit 1\n'


@needs_submitit
@pytest.mark.parametrize(
    ("options", "array", "cpus", "memory", "gpus"),
    [
        (("jobs_per_gpu=8",), "0-2%3", "8", "32GB", "1"),
        (("jobs_per_gpu=2", "gpus_per_node=4", "array_parallelism=2"), "0-2%2", "8", "32GB", "4"),
        (("jobs_per_gpu=3", "cpus_per_task=6", "mem_gb=20"), "0-6%7", "6", "20GB", "1"),
        (("jobs_per_gpu=2", "cpus_per_task=null", "mem_gb=null"), "0-9%10", None, None, "1"),
    ],
)
def test_the_script_asks_for_a_gpu_and_for_the_cores_and_memory_of_its_jobs(
    options: tuple[str, ...], array: str, cpus: str | None, memory: str | None, gpus: str, machine: Machine
) -> None:
    cluster(machine, REFUSED)
    chosen = [f"hydra.launcher.{option}" for option in options]
    status, printed, _ = sweep(*QUICK, "seed=range(20)", *SLURM, *chosen)
    assert status == 1
    assert "error: the launcher failed" in printed
    asked = dict(
        line.removeprefix("#SBATCH --").split("=", 1)
        for line in (machine.tools / "script").read_text().splitlines()
        if line.startswith("#SBATCH")
    )
    assert (asked["array"], asked.get("cpus-per-task"), asked.get("mem")) == (array, cpus, memory)
    assert (asked["gpus-per-node"], asked["nodes"], asked["ntasks-per-node"]) == (gpus, "1", "1")


@needs_submitit
@pytest.mark.slow  # starts processes
def test_every_job_runs_once_in_the_group_of_a_slurm_job(machine: Machine) -> None:
    cluster(machine)
    machine.gpus("0, GPU-aaa1, 80000\n")
    machine.mps()
    status, printed, found = sweep(
        "seed=6,7,8,9,10", "trainer=gpu", *SLURM, "hydra.launcher.jobs_per_gpu=2", main=tasks.main
    )
    assert status == 0
    assert "5 jobs in 3 jobs of Slurm, 2 in each" in printed
    assert "5 of 5 jobs finished" in printed
    assert sorted(job["seed"] for job in found.values()) == [6, 7, 8, 9, 10]
    groups = Counter(job["launcher"] for job in found.values())
    assert sorted(groups.values()) == [1, 2, 2]
    assert len({job["process"] for job in found.values()}) == 5
    assert {job["seen"]["VISIBLE_DEVICES"] for job in found.values()} == {"GPU-aaa1"}
    alone = next(launcher for launcher, count in groups.items() if count == 1)
    pipes = {job["launcher"]: job["seen"]["MPS_PIPE_DIRECTORY"] for job in found.values()}
    assert pipes.pop(alone) is None  # a GPU that is not shared
    assert len(set(pipes.values())) == 2
    assert machine.calls.count("quit -t 50") == 2


@needs_submitit
@pytest.mark.slow  # starts processes
def test_a_group_that_is_out_of_time_returns_to_the_queue_and_resumes_its_jobs(machine: Machine) -> None:
    """Slurm sends SIGUSR2 to every process of the job, those of the sweep's jobs among them."""
    cluster(machine)
    Path("trouble").touch()

    def begun() -> list[dict]:
        return [job for job in jobs(FOLDER).values() if job.get("seed") == 3 and "resumed" in job]

    def out_of_time() -> None:
        wait_until(lambda: len(begun()) == 2)
        for pid in [job["process"] for job in begun()] + [begun()[0]["launcher"]]:
            os.kill(pid, signal.SIGUSR2)

    watch = threading.Thread(target=out_of_time)
    watch.start()
    status, _, found = sweep(
        "seed=3,6", "lr=0.1,0.2", "trainer=cpu", *SLURM, "hydra.launcher.jobs_per_gpu=2", main=tasks.main
    )
    watch.join()
    assert status == 0
    assert {job["status"] for job in found.values()} == {"finished"}
    assert (machine.tools / "requeued").read_text().splitlines()[0] == "requeue 7_0"
    resumed = [(job["seed"], job["resumed"]) for job in found.values()]
    assert sorted(resumed) == [(3, True), (3, True), (6, False), (6, False)]


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("jobs_per_gpu=0", "hydra.launcher.jobs_per_gpu is 0: give a whole number from 1 up."),
        ("tasks_per_node=2", "hydra.launcher.tasks_per_node is 2 with jobs_per_gpu=8: use 1."),
        ("gpus_per_node=some", "hydra.launcher.gpus_per_node is 'some': give a whole number from 1 up."),
    ],
)
def test_what_the_launcher_cannot_do_is_one_sentence(option: str, sentence: str) -> None:
    status, printed, found = sweep(
        *QUICK, "seed=0,1", *SLURM, "hydra.launcher.jobs_per_gpu=8", f"hydra.launcher.{option}"
    )
    assert (status, found) == (1, {})
    assert f"error: {sentence}" in printed
    assert not FOLDER.exists()


def test_a_missing_plugin_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "deft_lightning.launch.slurm_groups", raising=False)
    monkeypatch.setitem(sys.modules, "hydra_plugins.hydra_submitit_launcher.submitit_launcher", None)
    status, printed, found = sweep(*QUICK, "seed=0,1", *SLURM)
    assert (status, found) == (1, {})
    assert "error: hydra_submitit_launcher is not installed: pip install 'deft-lightning[sweeps]'." in printed
    assert not FOLDER.exists()

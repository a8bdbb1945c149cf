"""hydra/launcher=processes: a process for every job, whatever happens to the others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from joblib import cpu_count

from deft_lightning.launch import processes
from deft_lightning.launch.sweep import jobs
from tests.launch import tasks
from tests.launch.running import QUICK, REPOSITORY, fault, sweep
from tests.launch.stand_ins import Machine, machine
from tests.launch.test_launchers import THREADS

__all__ = ["machine"]

pytestmark = pytest.mark.slow  # starts processes

PROCESSES = ("hydra/launcher=processes", "sweep.name=mine")
FOLDER = Path("multirun_outputs/mine")


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another process needs to find the tests' tasks, and no number of threads."""
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def by_seed(found: dict[str, dict]) -> dict[int, dict]:
    return {job["seed"]: job for job in found.values()}


def test_a_job_that_is_killed_is_marked_as_failed_and_the_others_go_on() -> None:
    Path("trouble").touch()
    status, printed, found = sweep("seed=0,1,2,4,5", *PROCESSES, main=tasks.main)
    outcomes = by_seed(found)
    assert status == 1
    assert {seed: job["status"] for seed, job in outcomes.items()} == {
        0: "finished", 1: "failed", 2: "failed", 4: "finished", 5: "finished",
    }  # fmt: skip
    assert outcomes[1]["reason"] == (
        "its process was killed (SIGKILL): if memory ran out, set a smaller hydra.launcher.n_jobs."
    )
    assert outcomes[2]["reason"].startswith("its process ended with exit status 3")
    assert "_seed1_" in next(line for line in printed.splitlines() if line.startswith("error: "))
    assert "3 of 5 jobs finished" in printed
    assert len({job["process"] for job in outcomes.values()}) == 5
    assert {job["threads"] for job in outcomes.values()} == {str(max(1, cpu_count() // 2))}
    spans = [(job["begun"], job["ended"]) for job in outcomes.values() if "ended" in job]
    assert max(sum(begun <= moment < ended for begun, ended in spans) for moment, _ in spans) <= 2
    assert "OMP_NUM_THREADS" not in os.environ
    Path("trouble").unlink()
    status, printed, found = sweep("seed=0,1,2,4,5", *PROCESSES, "sweep.resume=true", main=tasks.main)
    again = by_seed(found)
    assert (status, [again[seed]["resumed"] for seed in (1, 2)]) == (0, [True, True])
    assert {seed: again[seed] for seed in (0, 4, 5)} == {seed: outcomes[seed] for seed in (0, 4, 5)}


@contextmanager
def waiting_sweep(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A sweep in a process group of its own, two of whose three jobs have begun and wait."""
    Path("trouble").touch()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.launch.tasks", "seed=3", "lr=0.1,0.2,0.3", *PROCESSES, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        wait_until(lambda: sum("resumed" in job for job in jobs(FOLDER).values()) == 2)
        yield process
    finally:
        process.kill()
        process.wait()


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.parametrize(("name", "whole_group"), [("SIGINT", True), ("SIGTERM", False)])
def test_a_signal_stops_every_job_once_and_no_other_begins(name: str, whole_group: bool) -> None:
    """Ctrl-C in a terminal reaches the whole process group, `kill` the process of the sweep alone."""
    with waiting_sweep() as process:
        (os.killpg if whole_group else os.kill)(process.pid, getattr(signal, name))
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    outcomes = jobs(FOLDER)
    assert [job["status"] for job in outcomes.values()] == ["interrupted"] * 2
    sentence = f"the job was stopped by {name}: sweep.resume=true continues it."
    assert {job["reason"] for job in outcomes.values()} == {sentence}
    assert "Traceback" not in printed
    assert "0 of 3 jobs finished" in printed
    (left,) = (line for line in printed.splitlines() if "not begun" in line)
    assert left.split() == ["lr=0.3", "not", "begun"]
    assert "resumes the jobs that have not finished (3)." in " ".join(printed.split())


def test_jobs_stop_when_the_sweep_itself_is_killed() -> None:
    with waiting_sweep() as process:
        os.kill(process.pid, signal.SIGKILL)
        wait_until(lambda: [job["status"] for job in jobs(FOLDER).values()] == ["interrupted"] * 2)


@pytest.mark.acceptance  # starts six processes that train
def test_training_in_processes() -> None:
    """One job is killed in its third step; resumed, it continues from the checkpoint of the second."""
    Path("trouble").touch()
    each = ("callbacks.checkpoints.every_n_steps=1", "sweep.score=mig")
    command = (*QUICK, *THREADS, *fault(2, "SIGKILL"), *each, "callbacks.fault.step=2,99", *PROCESSES)
    status, _, found = sweep(*command)
    killed, finished = sorted(found.values(), key=lambda job: job["status"])
    assert (status, killed["status"], finished["status"]) == (1, "failed", "finished")
    assert killed["reason"].startswith("its process was killed (SIGKILL)")
    assert finished["threads"] == max(1, cpu_count() // 2)
    assert finished["process"] != os.getpid()
    Path("trouble").unlink()
    status, _, found = sweep(*command, "sweep.resume=true")
    assert (status, {job["status"] for job in found.values()}) == (0, {"finished"})
    assert {job["run_id"] for job in found.values()} == {killed["run_id"], finished["run_id"]}
    folder = next(FOLDER / name for name, job in found.items() if job["run_id"] == killed["run_id"])
    log = (folder / "run.log").read_text()
    assert (log.count("Stage 1 of 4 at step 0"), log.count("Stage 3 of 4 at step 2")) == (1, 2)
    assert "pytorch_lightning" not in log  # its notes for developers


def test_the_cores_are_divided_among_the_jobs_unless_the_user_has_done_so(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = cpu_count()
    assert [processes._at_once(-1, jobs) for jobs in (1, 1000)] == [1, cores]
    names = ("OMP_NUM_THREADS", "LOKY_MAX_CPU_COUNT", "TORCHINDUCTOR_COMPILE_THREADS")
    assert processes._environment(1) == dict.fromkeys(names, str(cores))
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert processes._environment(2) == {**dict.fromkeys(names[1:], str(max(1, cores // 2))), "TTY_COMPATIBLE": "0"}


def test_what_the_launcher_cannot_do_is_one_sentence() -> None:
    status, printed, found = sweep("seed=0,1", *PROCESSES, "hydra.launcher.n_jobs=none", main=tasks.main)
    assert (status, found) == (1, {})
    assert "error: hydra.launcher.n_jobs is 'none': give a whole number from 1 up." in printed
    assert not FOLDER.exists()


def test_each_job_sees_one_gpu_and_those_on_the_cpu_are_left_alone(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three GPUs the user has chosen two; NVIDIA's programs are stand-ins."""
    machine.gpus()
    machine.mps()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,GPU-ccc3")
    gpu_first = ("seed=6,7", "trainer=gpu,cpu", "hydra.launcher.n_jobs=3")
    status, printed, found = sweep(*gpu_first, *PROCESSES, main=tasks.main)
    assert status == 0
    seen = [(name, job["seen"]["VISIBLE_DEVICES"], job["seen"]["MPS_PIPE_DIRECTORY"]) for name, job in found.items()]
    on_gpu = {chosen for name, chosen, _ in seen if "gpu" in name}
    on_cpu = {chosen for name, chosen, _ in seen if "cpu" in name}
    assert (on_gpu, on_cpu) == ({"GPU-aaa1", "GPU-ccc3"}, {"0,GPU-ccc3"})
    daemon, _, end = machine.calls  # three jobs on two GPUs share them
    assert daemon.split()[3] == "GPU-aaa1,GPU-ccc3"
    assert {pipes for *_, pipes in seen} == {daemon.split()[1]}
    assert end == "quit -t 50"
    assert "MPS: started for this sweep" in printed
    assert "CUDA_MPS_PIPE_DIRECTORY" not in os.environ


def test_as_many_jobs_as_fit_into_the_memory_of_the_gpu(machine: Machine) -> None:
    machine.gpus("0, GPU-aaa1, 7000\n")
    auto = ("hydra.launcher.n_jobs=auto", "hydra.launcher.gpu_memory_gb=4")
    status, printed, _ = sweep("seed=6,7", "trainer=gpu", *auto, *PROCESSES, main=tasks.main)
    assert status == 0
    assert "Launching 2 jobs, 1 at once" in printed


def test_without_a_gpu_auto_is_one_job_a_core(machine: Machine) -> None:
    auto = ("hydra.launcher.n_jobs=auto", "hydra.launcher.mps=true")
    status, printed, found = sweep("seed=6,7,8", *auto, *PROCESSES, main=tasks.main)
    assert status == 0
    assert f"Launching 3 jobs, {min(3, cpu_count())} at once" in printed
    assert {job["seen"]["VISIBLE_DEVICES"] for job in found.values()} == {None}
    status, printed, _ = sweep("seed=6,7", "trainer=gpu", *auto, "hydra/launcher=processes", main=tasks.main)
    assert status == 1
    assert "error: hydra.launcher.n_jobs is 'auto' and nvidia-smi shows no GPU here: give a number." in printed
    status, printed, found = sweep("seed=6,7", "trainer=gpu", "hydra/launcher=processes", main=tasks.main)
    assert (status, len(found)) == (0, 2)
    assert "nvidia-smi shows no GPU here: the jobs share those that they find by time-slicing" in printed

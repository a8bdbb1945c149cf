"""Where the jobs of a sweep run: joblib, submitit on this machine, and what submitit asks of Slurm."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from hydra.core.plugins import Plugins

from deft_lightning.common import results
from deft_lightning.model.checkpoint import read_checkpoint
from tests.launch.running import QUICK, REPOSITORY, fault, sweep


def _installed(plugin: str) -> bool:
    return find_spec("hydra_plugins") is not None and find_spec(f"hydra_plugins.{plugin}") is not None


needs_joblib = pytest.mark.skipif(
    not _installed("hydra_joblib_launcher"), reason="pip install 'deft-lightning[sweeps]'"
)
needs_submitit = pytest.mark.skipif(
    not _installed("hydra_submitit_launcher"), reason="pip install 'deft-lightning[sweeps]'"
)
needs_ray = pytest.mark.skipif(not _installed("hydra_ray_launcher"), reason="pip install 'deft-lightning[ray]'")


class Threads(pl.Callback):
    """Writes the number of threads and the process to results.json."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        results.update(trainer.default_root_dir, threads=torch.get_num_threads(), process=os.getpid())


THREADS = ("+callbacks.threads._target_=tests.launch.test_launchers.Threads",)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What another process needs to find the tests' data."""
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    yield
    if find_spec("joblib.externals.loky"):  # its processes stay in the folder they were started in
        import_module("joblib.externals.loky").get_reusable_executor().shutdown(wait=True)


@pytest.mark.acceptance  # starts processes that import torch
# Slow, as are the next: the process of each job imports torch and Lightning.
@needs_joblib
def test_two_joblib_jobs_share_the_cores(elsewhere) -> None:
    seeds = ("seed=0,1,two", "threads=null,1")
    status, printed, outcomes = sweep(*QUICK, *THREADS, *seeds, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    share = max(1, (os.cpu_count() or 1) // 2)
    assert status == 1
    assert [(job["seed"], job["status"], job.get("threads")) for job in outcomes.values()] == [
        (0, "finished", 1), (0, "finished", share), (1, "finished", 1), (1, "finished", share),
        ("two", "failed", None), ("two", "failed", None),
    ]  # fmt: skip
    assert "4 of 6 jobs finished" in printed
    assert os.getpid() not in {job.get("process") for job in outcomes.values()}


@pytest.mark.acceptance  # starts five processes, one after another
@needs_submitit
def test_a_preempted_job_is_queued_again_and_resumes_from_its_checkpoint(elsewhere) -> None:
    """Slurm sends SIGUSR2, through submitit, when the time is over; submitit's local executor queues the job, too."""
    Path("trouble").touch()
    one_thread = (*QUICK, "threads=1", "seed=0")  # in both runs: the sums are then equal to the last bit
    status, _, outcomes = sweep(*one_thread, *fault(2, "SIGUSR2"), "hydra/launcher=submitit_local", "sweep.name=local")
    ((name, job),) = outcomes.items()
    assert (status, job["status"], job["steps"]) == (0, "finished", 5)
    (log,) = Path("multirun_outputs/local/.submitit").glob("*/*_log.out")
    assert "SIGUSR2: stopping after this step, once its checkpoint is saved." in log.read_text()
    assert "at step 3 of 5" in log.read_text()
    sweep(*one_thread, "sweep.name=uninterrupted")
    (uninterrupted,) = Path("multirun_outputs/uninterrupted").glob("*/checkpoints/last.ckpt")
    resumed, reference = (
        read_checkpoint(path)["state_dict"]
        for path in (Path("multirun_outputs/local", name, "checkpoints/last.ckpt"), uninterrupted)
    )
    assert all(torch.equal(resumed[key], value) for key, value in reference.items())


@needs_submitit
def test_what_slurm_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cluster stands in for one that refuses the script, which is looked at."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "srun").write_text("#!/bin/sh\n")
    (tools / "sbatch").write_text(f'#!/bin/sh\ncp "$1" {tmp_path}/script\necho "no room" >&2\nexit 1\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    options = (
        "hydra.launcher.partition=gpu",
        "hydra.launcher.array_parallelism=3",
        "hydra.launcher.setup=[module load cuda]",
    )
    status, printed, _ = sweep(*QUICK, "seed=range(5)", "sweep.name=mine", "hydra/launcher=submitit_slurm", *options)
    assert status == 1
    assert "error: the launcher failed" in printed
    lines = (tmp_path / "script").read_text().splitlines()
    for line in (
        "#SBATCH --array=0-4%3",
        "#SBATCH --cpus-per-task=4",
        "#SBATCH --gpus-per-node=1",
        "#SBATCH --job-name=mine",
        "#SBATCH --mem=16GB",
        "#SBATCH --nodes=1",
        "#SBATCH --ntasks-per-node=1",
        "#SBATCH --open-mode=append",
        "#SBATCH --partition=gpu",
        "#SBATCH --signal=USR2@300",
        "#SBATCH --time=720",
        "module load cuda",
    ):
        assert line in lines
    assert any("submitit.core._submit" in line and sys.executable in line for line in lines)


# Slow: starts a local Ray, and the process of each job imports torch and Lightning.
@pytest.mark.slow
@needs_ray
def test_jobs_on_a_local_ray(elsewhere) -> None:
    command = (*QUICK, *THREADS, "seed=0,1,two", "hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=2")
    try:
        status, printed, outcomes = sweep(*command, "+hydra.launcher.ray.init.include_dashboard=false")
    finally:
        import_module("ray").shutdown()
    assert status == 1
    assert [job["status"] for job in outcomes.values()] == ["finished", "finished", "failed"]
    assert "2 of 3 jobs finished" in printed
    assert [job.get("threads") for job in outcomes.values()] == [1, 1, None]
    assert os.getpid() not in {job.get("process") for job in outcomes.values()}


@pytest.mark.parametrize("launcher", ["ray", "joblib", "submitit_local"])
def test_a_plugin_that_is_not_installed_is_one_sentence(launcher: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plugins = Plugins.instance().class_name_to_class.items()
    of_hydra = {name: plugin for name, plugin in plugins if not name.startswith("hydra_plugins.")}
    monkeypatch.setattr(Plugins.instance(), "class_name_to_class", of_hydra)
    status, printed, outcomes = sweep(*QUICK, "seed=0,1", f"hydra/launcher={launcher}", "sweep.name=none")
    assert (status, outcomes) == (1, {})
    extra = "ray" if launcher == "ray" else "sweeps"
    assert f"_launcher is not installed: pip install 'deft-lightning[{extra}]'." in printed
    assert not Path("multirun_outputs/none").exists()


def test_a_launcher_that_does_not_exist_is_one_sentence() -> None:
    status, printed, _ = sweep(*QUICK, "seed=0,1", "hydra/launcher=lsf")
    assert status == 1
    launchers = "joblib, processes, ray, submitit_local, submitit_slurm"
    assert f"there is no 'hydra/launcher/lsf': choose one of {launchers}." in printed

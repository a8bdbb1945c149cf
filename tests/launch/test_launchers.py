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
from tests.launch.test_sweep import QUICK, REPOSITORY, _fault, sweep  # noqa: F401  # a fixture


def _installed(plugin: str) -> bool:
    return find_spec("hydra_plugins") is not None and find_spec(f"hydra_plugins.{plugin}") is not None


needs_joblib = pytest.mark.skipif(
    not _installed("hydra_joblib_launcher"), reason="pip install 'deft-lightning[sweeps]'"
)
needs_submitit = pytest.mark.skipif(
    not _installed("hydra_submitit_launcher"), reason="pip install 'deft-lightning[sweeps]'"
)


class Threads(pl.Callback):
    """Keeps the number of threads and the process in results.json."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        results.update(trainer.default_root_dir, threads=torch.get_num_threads(), process=os.getpid())


needs_ray = pytest.mark.skipif(not _installed("hydra_ray_launcher"), reason="pip install 'deft-lightning[ray]'")

THREADS = ("+callbacks.threads._target_=tests.launch.test_launchers.Threads",)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a process of its own needs to find the tests' data."""
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    yield
    if find_spec("joblib.externals.loky"):  # its processes are kept, and stay in the folder they were started in
        import_module("joblib.externals.loky").get_reusable_executor().shutdown(wait=True)


# Slow, as are the next: each job's process imports torch and Lightning anew.
@pytest.mark.slow
@needs_joblib
@pytest.mark.parametrize(("threads", "expected"), [("null", max(1, (os.cpu_count() or 1) // 2)), ("1", 1)])
def test_two_joblib_jobs_share_the_cores(sweep, elsewhere, threads: str, expected: int) -> None:  # noqa: F811
    command = (*QUICK, *THREADS, "seed=0,1,two", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    status, said, found = sweep(*command, f"threads={threads}")
    assert status == 1
    assert [known["status"] for known in found.values()] == ["finished", "finished", "failed"]
    assert "2 of 3 jobs finished" in said
    assert [known.get("threads") for known in found.values()] == [expected, expected, None]
    assert os.getpid() not in {known.get("process") for known in found.values()}


@pytest.mark.slow
@needs_submitit
def test_a_preempted_job_is_queued_again_and_goes_on_from_its_checkpoint(sweep, elsewhere) -> None:  # noqa: F811
    """SIGUSR2 is how submitit hears from Slurm that its time is over; its local executor queues the job again, too."""
    Path("trouble").touch()
    one_thread = (*QUICK, "threads=1", "seed=0")  # of both, for the same sums to the last bit
    status, _, found = sweep(*one_thread, *_fault(2, "SIGUSR2"), "hydra/launcher=submitit_local", "sweep.name=local")
    ((name, known),) = found.items()
    assert (status, known["status"], known["steps"]) == (0, "finished", 5)
    (log,) = Path("multirun_outputs/local/.submitit").glob("*/*_log.out")
    assert "SIGUSR2: stopping after this step, once its checkpoint is saved." in log.read_text()
    assert "at step 3 of 5" in log.read_text()
    sweep(*one_thread, "sweep.name=alone")
    (alone,) = Path("multirun_outputs/alone").glob("*/checkpoints/last.ckpt")
    ours, theirs = (
        read_checkpoint(path)["state_dict"]
        for path in (Path("multirun_outputs/local", name, "checkpoints/last.ckpt"), alone)
    )
    assert all(torch.equal(ours[key], value) for key, value in theirs.items())


@needs_submitit
def test_what_slurm_is_asked_for(sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """A cluster that takes the script and answers that it is full: the script is what is looked at."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "srun").write_text("#!/bin/sh\n")
    (tools / "sbatch").write_text(f'#!/bin/sh\ncp "$1" {tmp_path}/script\necho "no room" >&2\nexit 1\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    asked = (
        "hydra.launcher.partition=gpu",
        "hydra.launcher.array_parallelism=3",
        "hydra.launcher.setup=[module load cuda]",
    )
    status, said, _ = sweep(*QUICK, "seed=range(5)", "sweep.name=mine", "hydra/launcher=submitit_slurm", *asked)
    assert status == 1
    assert "error: the launcher has given up" in said
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


# Slow: a Ray of its own is started, and every job's process imports torch and Lightning anew.
@pytest.mark.slow
@needs_ray
def test_jobs_on_a_ray_of_this_machine(sweep, elsewhere) -> None:  # noqa: F811
    command = (*QUICK, *THREADS, "seed=0,1,two", "hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=2")
    try:
        status, said, found = sweep(*command, "+hydra.launcher.ray.init.include_dashboard=false")
    finally:
        import_module("ray").shutdown()
    assert status == 1
    assert [known["status"] for known in found.values()] == ["finished", "finished", "failed"]
    assert "2 of 3 jobs finished" in said
    assert [known.get("threads") for known in found.values()] == [1, 1, None]
    assert os.getpid() not in {known.get("process") for known in found.values()}


@pytest.mark.parametrize("launcher", ["ray", "joblib", "submitit_local"])
def test_a_plugin_that_is_not_installed_is_one_sentence(sweep, launcher: str, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    known = Plugins.instance().class_name_to_class.items()
    own = {name: plugin for name, plugin in known if not name.startswith("hydra_plugins.")}
    monkeypatch.setattr(Plugins.instance(), "class_name_to_class", own)
    status, said, found = sweep(*QUICK, "seed=0,1", f"hydra/launcher={launcher}", "sweep.name=none")
    assert (status, found) == (1, {})
    extra = "ray" if launcher == "ray" else "sweeps"
    assert f"_launcher is missing: pip install 'deft-lightning[{extra}]'." in said
    assert not Path("multirun_outputs/none").exists()


def test_a_launcher_that_does_not_exist_is_one_sentence(sweep) -> None:  # noqa: F811
    status, said, _ = sweep(*QUICK, "seed=0,1", "hydra/launcher=lsf")
    assert status == 1
    known = "joblib, ray, submitit_local, submitit_slurm"
    assert f"there is no 'hydra/launcher/lsf'; hydra/launcher: there are {known}." in said

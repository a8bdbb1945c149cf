"""Sweeps: a folder for every job, failures that stop no other job, and the same command started again."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
import pytorch_lightning as pl
from omegaconf import OmegaConf

from deft_lightning import __main__
from deft_lightning.common import results
from deft_lightning.launch.sweep import SweepFolder, job_folder, jobs, lock, report
from deft_lightning.model.checkpoint import read_checkpoint
from tests.helpers import PLAIN, TINY

QUICK = (*TINY, *PLAIN, "~callbacks.kl_decomposition", "schedule.epochs=[0.1,0.1,0.1,0.1]")
"""Overrides of a run of five steps."""
REPOSITORY = Path(__file__).parents[1]


class Fault(pl.Callback):
    """Fails at a step, for as long as there is a file `trouble` in the working folder."""

    def __init__(self, step: int, how: str) -> None:
        self.step, self.how = step, how

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.global_step == self.step and Path("trouble").exists():
            if self.how == "raise":
                raise RuntimeError("a cosmic ray")
            os.kill(os.getpid(), getattr(signal, self.how))


def _fault(step: int, how: str) -> tuple[str, ...]:
    return ("+callbacks.fault._target_=tests.launch.test_sweep.Fault", f"+callbacks.fault.step={step}",
            f"+callbacks.fault.how={how}")  # fmt: skip


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run `python -m deft_lightning --multirun` in an empty folder; gives exit status, screen and jobs by folder."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, dict[str, dict]]:
        monkeypatch.setattr(sys, "argv", ["deft_lightning", "--multirun", *arguments])
        OmegaConf.clear_cache(OmegaConf.create())
        status, said = 0, ""
        try:
            __main__.main()
        except SystemExit as stop:
            status, said = (stop.code, "") if isinstance(stop.code, int) else (1, str(stop.code))
        captured = capsys.readouterr()
        folder = SweepFolder.current
        return status, captured.out + captured.err + said, {} if folder is None else jobs(folder)

    return call


def test_every_job_has_its_folder_and_a_failure_stops_no_other(sweep, tmp_path: Path) -> None:
    status, said, found = sweep(*QUICK, "seed=0,one,2")
    assert status == 1
    assert "error: color_dsprites_seedone" in said
    assert [(known["seed"], known["status"]) for known in found.values()] == [
        (0, "finished"), (2, "finished"), ("one", "failed"),
    ]  # fmt: skip
    assert found[list(found)[2]]["reason"].startswith("seed is 'one': give a whole number")
    assert "2 of 3 jobs finished" in said
    (folder,) = (tmp_path / "multirun_outputs").iterdir()
    assert folder.name.startswith("color_dsprites_20")
    for name, known in found.items():
        assert known["sweep"]["name"] == folder.name
        assert f"seed={known['seed']}" in known["sweep"]["overrides"]
        assert name.startswith(f"color_dsprites_seed{known['seed']}_")


def test_resuming_skips_finished_jobs_and_goes_on_with_the_others(sweep) -> None:
    """Both jobs fail of themselves in their third step; resumed, each goes on from the checkpoint of the second."""
    command = (*QUICK, "seed=0,1", *_fault(2, "raise"), "callbacks.checkpoints.every_n_steps=1")
    Path("trouble").touch()
    status, said, before = sweep(*command)
    assert status == 1
    assert [known["reason"] for known in before.values()] == ["RuntimeError: a cosmic ray"] * 2
    assert said.count("error: color_dsprites_seed") == 2
    Path("trouble").unlink()
    status, said, after = sweep(*command, "sweep.resume=true")
    assert (status, list(after)) == (0, list(before))
    assert said.count("at step 2 of 5") == 2
    for name, known in after.items():
        assert known["status"] == "finished"
        assert known["run_id"] == before[name]["run_id"]
    status, _, again = sweep(*command, "sweep.resume=true")
    assert (status, again) == (0, after)  # nothing was trained anew: not even a time has changed


def test_a_signal_ends_the_sweep_and_a_damaged_checkpoint_is_set_aside(sweep) -> None:
    command = (*QUICK, "seed=0,1", *_fault(2, "SIGTERM"), "sweep.name=mine")
    Path("trouble").touch()
    status, said, found = sweep(*command)
    assert (status, [known["status"] for known in found.values()]) == (1, ["interrupted"])
    assert "stopped by SIGTERM at step 3" in said
    Path("trouble").unlink()
    (last,) = Path("multirun_outputs/mine").glob("*/checkpoints/last.ckpt")
    last.write_bytes(last.read_bytes()[:1000])
    status, said, found = sweep(*command, "sweep.resume=true")
    assert (status, [known["status"] for known in found.values()]) == (0, ["finished"] * 2)
    assert "It is kept as damaged.ckpt, and the run begins anew." in " ".join(said.split())
    assert last.with_name("damaged.ckpt").stat().st_size == 1000
    assert read_checkpoint(last)["global_step"] == 5


def test_a_sweep_never_lands_on_another(sweep) -> None:
    one = (*QUICK, "sweep.name=mine", "seed=0")
    assert sweep(*one)[0] == 0
    kept = {path: path.read_bytes() for path in Path("multirun_outputs").rglob("*") if path.is_file()}
    status, said, _ = sweep(*one)
    assert (status, "mine already holds a sweep: add sweep.resume=true" in said) == (1, True)
    assert {path: path.read_bytes() for path in Path("multirun_outputs").rglob("*") if path.is_file()} == kept


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("sweep.resume=true",), "there is no sweep of the name dsprites under multirun_outputs"),
        (("sweep.resume=true", "sweep.name=mine"), "there is no sweep of the name mine under multirun_outputs"),
        (("sweep.resume=yes_please",), "sweep.resume is 'yes_please': give true"),
        (("sweep.name=../mine",), "sweep.name is '../mine': give a word"),
        (("resume=true",), "go on with a sweep by sweep.resume=true"),
        (("data=dsprites,dspritse",), "Did you mean 'dsprites'?"),
    ],
)
def test_what_cannot_be_swept_is_one_sentence_and_leaves_nothing(sweep, arguments, sentence: str) -> None:
    status, said, _ = sweep("+experiment=dsprites", *arguments)
    assert status == 1
    assert sentence in said
    assert "Traceback" not in said
    assert not [path for path in Path().rglob("*") if path.is_file()]


def test_a_folder_is_a_function_of_what_the_job_is() -> None:
    overrides = ["sweep.name=a", "+experiment=dsprites", "groups.gamma=0.1", "data=dsprites", "scale=quick", "seed=3"]
    folder = job_folder("dsprites", 3, overrides, ["experiment", "groups.gamma", "seed"])
    assert folder.startswith("dsprites_seed3_gamma-0.1_")
    assert folder == job_folder("dsprites", 3, overrides[::-1], ["experiment", "groups.gamma", "seed"])
    small = ["+experiment@_global_=beta_vae", "+sweep=small", "seed=3"]  # whose name does not tell the experiment
    assert job_folder("small", 3, small, ["experiment", "seed"]).startswith("small_beta_vae_seed3_")
    sampled = job_folder("deft", 3, ["lr=0.00012345678", "schedule.pressure=151.86225921856524"], ["schedule.pressure"])
    assert sampled.startswith("deft_seed3_pressure-151.9_")
    again = ["sweep.resume=true", "sweep.name=b", *overrides[1:]]
    assert folder == job_folder("dsprites", 3, again, ["experiment", "groups.gamma", "seed"])
    other = [override.replace("quick", "paper") for override in overrides]
    assert folder != job_folder("dsprites", 3, other, ["experiment", "groups.gamma", "seed"])


def test_the_trunk_of_a_sweep_lands_inside_it(sweep) -> None:
    branches = ("groups=deft2", "schedule.epochs=[0.1,0.1]", "schedule.pressures=[70,30]")
    trunk = "+trunk={stages:1,gamma:0.1,folder:'multirun_outputs/${sweep.name}/trunk/seed${seed}'}"
    status, _, found = sweep(*QUICK, *branches, trunk, "groups.gamma=0,1", "sweep.name=mine")
    assert (status, len(found)) == (0, 2)
    assert Path("multirun_outputs/mine/trunk/seed0/checkpoints/stage_1.ckpt").is_file()
    assert all(list(known["stages"]) == ["stage_2"] for known in found.values())


def test_overrides_that_refer_to_other_fields_are_kept_as_written() -> None:
    """What they refer to belongs to the job, and is not known where folders are named."""
    given = OmegaConf.create(["schedule.pressures=[${sweep.first},1]", "seed=0"])
    name = job_folder("deft", 0, given, ["schedule.pressures"])
    assert name.startswith("deft_seed0")
    assert name != job_folder("deft", 0, OmegaConf.create(["schedule.pressures=[${sweep.other},1]", "seed=0"]), [])


def test_a_sweep_with_other_overrides_is_not_taken_for_the_one_to_resume(sweep) -> None:
    _, _, found = sweep(*QUICK, "seed=0")
    (name,) = (path.name for path in Path("multirun_outputs").iterdir())
    status, said, _ = sweep(*QUICK, "seed=0", "lr=0.001", "sweep.resume=true")
    assert status == 1
    assert "was started with these overrides: start one without sweep.resume, or say which" in said
    assert f"sweep.name={name}" in said
    status, _, more = sweep(*QUICK, "seed=0", "lr=0.001", "sweep.resume=true", f"sweep.name={name}")
    assert (status, len(more)) == (0, 2)
    assert set(found) < set(more)


def test_a_job_that_was_killed_says_so_and_one_at_work_elsewhere_does_not(sweep) -> None:
    """A killed process leaves "running" behind, and no lock; resumed, the job goes on."""
    sweep(*QUICK, "seed=0,1", "sweep.name=one")
    dead, busy = sorted(path.parent for path in Path("multirun_outputs/one").glob("*/results.json"))
    for folder in (dead, busy):
        results.update(folder, status="running")
    with lock(busy):
        assert not report(Path("multirun_outputs/one"))
    known = jobs(Path("multirun_outputs/one"))
    assert (known[dead.name]["status"], known[busy.name]["status"]) == ("failed", "running")
    assert known[dead.name]["reason"].startswith("its process ended without a word")
    status, _, found = sweep(*QUICK, "seed=0,1", "sweep.name=one", "sweep.resume=true")
    assert status == 0
    assert {job["status"] for job in found.values()} == {"finished"}

"""Sweeps: a folder for every job, failures that stop no other job, and the same command started again."""

from __future__ import annotations

import shutil
from contextlib import chdir
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from deft_lightning.common import results
from deft_lightning.common.results import Status
from deft_lightning.launch.sweep import SweepFolder, job_folder, jobs, lock, report
from deft_lightning.model.checkpoint import read_checkpoint
from tests.launch.running import QUICK, command, fault, sweep

pytestmark = pytest.mark.slow  # trains runs


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, str]:
    """A sweep of three jobs, one of which fails: its folder, the exit status and what it printed."""
    with chdir(tmp_path_factory.mktemp("three")):
        status, printed, _ = sweep(*QUICK, "seed=0,one,2")
        (folder,) = Path("multirun_outputs").absolute().iterdir()
    return folder, status, printed


@pytest.fixture
def copied(three) -> Path:
    """A copy of that sweep in the working folder."""
    folder, *_ = three
    return Path(shutil.copytree(folder, Path("multirun_outputs", folder.name)))


def test_every_job_has_its_folder_and_a_failure_stops_no_other(three) -> None:
    folder, status, printed = three
    outcomes = jobs(folder)
    assert status == 1
    assert "error: color_dsprites_seedone" in printed
    assert [(job["seed"], job["status"]) for job in outcomes.values()] == [
        (0, "finished"), (2, "finished"), ("one", "failed"),
    ]  # fmt: skip
    assert outcomes[list(outcomes)[2]]["reason"].startswith("seed is 'one': give a whole number")
    assert "2 of 3 jobs finished" in printed
    assert folder.name.startswith("color_dsprites_20")
    for name, job in outcomes.items():
        assert job["sweep"]["name"] == folder.name
        assert f"seed={job['seed']}" in job["sweep"]["overrides"]
        assert name.startswith(f"color_dsprites_seed{job['seed']}_")


def test_resuming_skips_finished_jobs_and_resumes_the_others() -> None:
    """Both jobs fail in their third step; resumed, each continues from the checkpoint of the second."""
    words = (*QUICK, "seed=0,1", *fault(2, "raise"), "callbacks.checkpoints.every_n_steps=1")
    Path("trouble").touch()
    status, printed, before = sweep(*words)
    assert status == 1
    assert [job["reason"] for job in before.values()] == ["RuntimeError: a cosmic ray"] * 2
    assert printed.count("error: color_dsprites_seed") == 2
    Path("trouble").unlink()
    status, printed, after = sweep(*words, "sweep.resume=true")
    assert (status, list(after)) == (0, list(before))
    assert printed.count("at step 2 of 5") == 2
    for name, job in after.items():
        assert job["status"] == "finished"
        assert job["run_id"] == before[name]["run_id"]
    status, _, again = sweep(*words, "sweep.resume=true")
    assert (status, again) == (0, after)  # nothing was trained again: not even a time has changed


def test_a_job_that_is_resumed_by_itself_stays_one_of_its_sweep() -> None:
    command_line = (*QUICK, *fault(2, "raise"), "callbacks.checkpoints.every_n_steps=1", "seed=0")
    Path("trouble").touch()
    _, _, before = sweep(*command_line)
    assert SweepFolder.current is not None
    folder = SweepFolder.current / next(iter(before))
    Path("trouble").unlink()
    assert command(*command_line, f"resume={folder}") == (0, "")
    after = results.read(folder)
    assert (after["status"], after["sweep"]) == ("finished", before[folder.name]["sweep"])


def test_a_signal_ends_the_sweep_and_a_damaged_checkpoint_is_set_aside() -> None:
    words = (*QUICK, "seed=0,1", *fault(2, "SIGTERM"), "sweep.name=mine")
    Path("trouble").touch()
    status, printed, outcomes = sweep(*words)
    assert (status, [job["status"] for job in outcomes.values()]) == (1, ["interrupted"])
    assert "stopped by SIGTERM at step 3" in printed
    Path("trouble").unlink()
    (last,) = Path("multirun_outputs/mine").glob("*/checkpoints/last.ckpt")
    last.write_bytes(last.read_bytes()[:1000])
    status, printed, outcomes = sweep(*words, "sweep.resume=true")
    assert (status, [job["status"] for job in outcomes.values()]) == (0, ["finished"] * 2)
    assert "It is kept as damaged.ckpt, and the run" in " ".join(printed.split())
    assert printed.count("Stage 1 of 4 at step 0") == 2  # both runs start from the beginning
    assert last.with_name("damaged.ckpt").stat().st_size == 1000
    assert read_checkpoint(last)["global_step"] == 5


def test_a_sweep_never_lands_on_another(copied: Path) -> None:
    before = {path: path.read_bytes() for path in Path("multirun_outputs").rglob("*") if path.is_file()}
    status, printed, _ = sweep(*QUICK, "seed=0,one,2", f"sweep.name={copied.name}")
    assert (status, f"{copied.name} already holds a sweep: add sweep.resume=true" in printed) == (1, True)
    assert {path: path.read_bytes() for path in Path("multirun_outputs").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("sweep.resume=true",), "there is no sweep named dsprites under multirun_outputs"),
        (("sweep.resume=true", "sweep.name=mine"), "there is no sweep named mine under multirun_outputs"),
        (("sweep.resume=yes_please",), "sweep.resume is 'yes_please': give true"),
        (("sweep.name=../mine",), "sweep.name is '../mine': give a word"),
        (("resume=true",), "resume is True in a sweep: use sweep.resume=true"),
        (("data=dsprites,dspritse",), "Did you mean 'dsprites'?"),
    ],
)
def test_what_cannot_be_swept_is_one_sentence_and_leaves_nothing(arguments, sentence: str) -> None:
    status, printed, _ = sweep("+experiment=dsprites", *arguments)
    assert status == 1
    assert sentence in printed
    assert "Traceback" not in printed
    assert not [path for path in Path().rglob("*") if path.is_file()]


def test_a_folder_depends_on_the_identifying_overrides_alone() -> None:
    overrides = ["sweep.name=a", "+experiment=dsprites", "groups.gamma=0.1", "data=dsprites", "scale=quick", "seed=3"]
    folder = job_folder("dsprites", 3, overrides, ["experiment", "groups.gamma", "seed"])
    assert folder.startswith("dsprites_seed3_gamma-0.1_")
    assert folder == job_folder("dsprites", 3, overrides[::-1], ["experiment", "groups.gamma", "seed"])
    small = [
        "+experiment@_global_=beta_vae",
        "+sweep=small",
        "seed=3",
    ]  # the name of the run is not that of the experiment
    assert job_folder("small", 3, small, ["experiment", "seed"]).startswith("small_beta_vae_seed3_")
    sampled = job_folder("deft", 3, ["lr=0.00012345678", "schedule.pressure=151.86225921856524"], ["schedule.pressure"])
    assert sampled.startswith("deft_seed3_pressure-151.9_")
    again = ["sweep.resume=true", "sweep.name=b", *overrides[1:]]
    assert folder == job_folder("dsprites", 3, again, ["experiment", "groups.gamma", "seed"])
    other = [override.replace("quick", "paper") for override in overrides]
    assert folder != job_folder("dsprites", 3, other, ["experiment", "groups.gamma", "seed"])


def test_shared_stages_of_a_sweep_land_inside_it() -> None:
    branches = ("groups=deft2", "schedule.epochs=[0.1,0.1]", "schedule.pressures=[70,30]")
    shared = "+shared_stages={stages:1,gamma:0.1,folder:'multirun_outputs/${sweep.name}/shared/seed${seed}'}"
    status, _, outcomes = sweep(*QUICK, *branches, shared, "groups.gamma=0,1", "sweep.name=mine")
    assert (status, len(outcomes)) == (0, 2)
    assert Path("multirun_outputs/mine/shared/seed0/checkpoints/stage_1.ckpt").is_file()
    assert all(list(job["stages"]) == ["stage_2"] for job in outcomes.values())


def test_overrides_that_refer_to_other_fields_are_kept_as_written() -> None:
    """Their values belong to the job, and are not available where its folder is named."""
    overrides = OmegaConf.create(["schedule.pressures=[${sweep.first},1]", "seed=0"])
    name = job_folder("deft", 0, overrides, ["schedule.pressures"])
    assert name.startswith("deft_seed0")
    assert name != job_folder("deft", 0, OmegaConf.create(["schedule.pressures=[${sweep.other},1]", "seed=0"]), [])


def test_a_sweep_with_other_overrides_is_not_taken_for_the_one_to_resume(copied: Path) -> None:
    before = jobs(copied)
    other = (*QUICK, "seed=0", "lr=0.001", "sweep.resume=true")
    status, printed, _ = sweep(*other)
    assert status == 1
    assert "has these overrides: start one without sweep.resume, or choose the sweep to resume by" in printed
    assert f"sweep.name={copied.name}." in printed
    _, printed, _ = sweep(*other, f"sweep.name={copied.name}")
    assert "was started with other overrides" in printed
    assert "lr=0.001" in printed
    (name,) = set(jobs(copied)) - set(before)
    assert jobs(copied) == before | {name: results.read(copied / name)}
    assert results.status(copied / name) == Status.FINISHED


def test_a_job_that_was_killed_is_recorded_as_failed_and_one_at_work_elsewhere_is_not(copied: Path) -> None:
    """A killed process leaves the status "running" behind, and no lock; resumed, the job continues."""
    dead, busy, failed = sorted(path.parent for path in copied.glob("*/results.json"))
    shutil.rmtree(failed)
    for folder in (dead, busy):
        results.update(folder, status=Status.RUNNING)
    with lock(busy):
        assert not report(copied)
    assert (results.status(dead), results.status(busy)) == (Status.FAILED, Status.RUNNING)
    assert results.read(dead)["reason"].startswith("its process ended without an error message")
    status, _, outcomes = sweep(*QUICK, "seed=0,2", f"sweep.name={copied.name}", "sweep.resume=true")
    assert (status, {job["status"] for job in outcomes.values()}) == (0, {"finished"})

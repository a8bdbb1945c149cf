"""How a job of a sweep ends, with a task that trains nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import DictConfig

from deft_lightning.common import files, results
from deft_lightning.common.errors import DeftError, Diverged, Incomplete, Interrupted
from deft_lightning.common.results import Status
from deft_lightning.launch import cli
from deft_lightning.training import run_folder
from tests.launch.running import command, run_main, sweep

pytestmark = pytest.mark.slow  # trains runs

ends: dict[int, BaseException] = {}
"""What the task raises, by the seed of the job."""
trained: list[tuple[int, bool]] = []
"""Seed and `resume` of every call of the task."""


@pytest.fixture(autouse=True)
def _reset() -> None:
    ends.clear()
    trained.clear()


def task(cfg: DictConfig, folder: Path) -> None:
    """A run that ends as `ends` has it, or finishes."""
    trained.append((cfg.seed, cfg.resume))
    results.update(folder, status=Status.RUNNING, training={}, seed=cfg.seed, steps=3)
    if cfg.seed in ends:
        raise ends[cfg.seed]
    results.update(folder, status=Status.FINISHED, stages={"stage_1": {"scores": {"mig": 0.5}}})


def run(*arguments: str) -> tuple[int, str, dict[int, dict]]:
    """Exit status, what the sweep printed, and its jobs by seed."""
    status, printed, jobs = sweep("sweep.name=mine", *arguments, main=lambda: cli.run_task(task))
    return status, printed, {job["seed"]: job for job in jobs.values()}


def test_a_job_that_ends_before_its_last_step_is_interrupted_and_the_others_go_on() -> None:
    ends[1] = Incomplete("the run reached trainer.max_time at step 3: resume=true continues from there.")
    status, printed, jobs = run("seed=0,1,2")
    assert status == 1
    assert [job["status"] for job in jobs.values()] == ["finished", "interrupted", "finished"]
    reason = "the run reached trainer.max_time at step 3: sweep.resume=true continues from there."
    assert jobs[1]["reason"] == reason
    (line,) = (line for line in printed.splitlines() if line.startswith("error: "))
    assert line.endswith(f": {reason}")
    assert "sweep.resume=true sweep.name=mine resumes the jobs that have not finished (1)." in printed
    ends.clear()
    trained.clear()
    status, _, jobs = run("seed=0,1,2", "sweep.resume=true")
    assert (status, trained) == (0, [(1, True)])
    assert {job["status"] for job in jobs.values()} == {"finished"}


def test_a_diverged_job_is_final() -> None:
    ends[1] = Diverged("the loss is nan at step 3: lower lr.")
    status, printed, jobs = run("seed=0,1")
    assert status == 1
    assert (jobs[1]["status"], jobs[1]["reason"]) == ("diverged", "the loss is nan at step 3: lower lr.")
    assert "1 of 2 jobs finished" in printed
    assert "Diverged jobs (1) are not trained again" in printed
    assert "sweep.resume" not in printed
    trained.clear()
    ends[2] = DeftError("there is no room on the disk.")
    status, printed, jobs = run("seed=0,1,2", "sweep.resume=true", "sweep.score=mig")
    assert (status, trained) == (1, [(2, False)])
    assert [job["status"] for job in jobs.values()] == ["finished", "diverged", "failed"]
    assert "resumes the jobs that have not finished (1)." in printed
    assert "choose one of the scores" not in printed  # a run that diverged needs none


def test_a_signal_ends_the_sweep() -> None:
    ends[0] = Interrupted("the run was stopped by SIGTERM at step 3: resume=true continues from there.", 15)
    status, printed, jobs = run("seed=0,1")
    assert (status, trained) == (1, [(0, False)])
    assert "0 of 2 jobs finished" in printed
    (left,) = (line for line in printed.splitlines() if "not begun" in line)
    assert left.split() == ["seed=1", "not", "begun"]
    assert "resumes the jobs that have not finished (2)." in printed
    assert jobs[0]["status"] == "interrupted"
    assert jobs[0]["reason"] == "the run was stopped by SIGTERM at step 3: sweep.resume=true continues from there."
    assert f": {jobs[0]['reason']}\n" in printed


def test_a_sweep_that_is_resumed_counts_every_job_once() -> None:
    """Also a job that was killed before its results were written, and one whose results are damaged."""
    ends[1] = Interrupted("the run was stopped by SIGTERM at step 3: resume=true continues from there.", 15)
    run("seed=0,1,2", "groups.latents=[1,2,3,4],[3,3,2,2]")
    (folder,) = Path("multirun_outputs/mine").glob("*_seed0_latents*1-2-3-4*")
    (folder / results.FILE).write_text("cut sh")
    ends[2] = ends.pop(1)
    status, printed, _ = sweep("sweep.name=mine", "seed=0,1,2", "groups.latents=[1,2,3,4],[3,3,2,2]",
                               "sweep.resume=true", main=lambda: cli.run_task(task))  # fmt: skip
    assert status == 1
    assert "3 of 6 jobs finished" in printed
    assert [line.split()[:2] for line in printed.splitlines() if "not begun" in line] == [
        ["seed=2", "groups.latents=[3,3,2,2]"]
    ]
    assert "resumes the jobs that have not finished (3)." in printed


@pytest.mark.parametrize("ended_by", ["the job", "the training"])
def test_a_stopped_job_says_how_its_sweep_is_resumed(ended_by: str) -> None:
    """From the moment its end is recorded: the job may be killed right after."""
    results.update(Path("job"), sweep={"name": "mine"} if ended_by == "the training" else None)
    error = Interrupted("the run was stopped by SIGTERM at step 3: resume=true continues from there.", 15)
    results.record_end(Path("job"), error, **({"sweep": {"name": "mine"}} if ended_by == "the job" else {}))
    assert "at step 3: sweep.resume=true continues" in results.read(Path("job"))["reason"]
    results.record_end(Path("run"), error)
    assert "at step 3: resume=true continues" in results.read(Path("run"))["reason"]


@pytest.mark.parametrize(
    ("multirun", "saved", "end"),
    [
        ((), True, ": resume=true continues from the last checkpoint."),
        ((), False, " before the first checkpoint: start it again."),
        (("--multirun",), False, ": sweep.resume=true continues from the last checkpoint."),
    ],
)
def test_ctrl_c_outside_the_training_is_one_sentence(multirun: tuple, saved: bool, end: str, monkeypatch) -> None:
    def interrupted(cfg: DictConfig, folder: Path) -> None:
        if saved:
            files.write_text(run_folder.last_checkpoint(folder), "a checkpoint")
        raise KeyboardInterrupt

    monkeypatch.setattr("deft_lightning.__main__._train", interrupted)
    assert command(*multirun) == (1, f"error: interrupted{end}")


def test_a_score_that_runs_do_not_have_is_named_with_those_they_have() -> None:
    """The run has finished all the same, and the same sweep with the right name does not train it again."""
    _, printed, jobs = run("seed=0", "sweep.score=gim")
    assert "sweep.score is 'gim': choose one of the scores of the run, mig." in printed
    assert jobs[0]["status"] == "finished"
    status, _, _ = run("seed=0", "sweep.score=mig", "sweep.resume=true")
    assert (status, trained) == (0, [(0, False)])


def _open_a_missing_file(cfg: DictConfig, folder: Path) -> None:
    (folder / "labels.csv").read_text()


def test_a_file_that_a_run_cannot_read_is_not_taken_for_its_folder() -> None:
    status, _, printed = run_main(lambda: cli.run_task(_open_a_missing_file))
    assert status == 1
    assert "labels.csv cannot be used (No such file or directory): look at its path and permissions." in printed

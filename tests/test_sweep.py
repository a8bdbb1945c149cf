"""Sweeps: a folder for every job, failures that stop no other job, and the same command started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import pytorch_lightning as pl
from omegaconf import OmegaConf

from deft_lightning import __main__ as cli
from deft_lightning import results
from deft_lightning.sweep import SweepFolder, job_folder, jobs
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
    return ("+callbacks.fault._target_=tests.test_sweep.Fault", f"+callbacks.fault.step={step}",
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
            cli.main()
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


def test_resuming_skips_finished_jobs_and_goes_on_with_the_others(sweep, tmp_path: Path) -> None:
    """Of three jobs one fails of itself before its third step; resumed, it goes on from its checkpoint."""
    command = (*QUICK, "seed=0,1", *_fault(2, "raise"), "callbacks.checkpoints.every_n_steps=1")
    Path("trouble").touch()
    status, said, before = sweep(*command)
    assert status == 1
    assert [known["reason"] for known in before.values()] == ["RuntimeError: a cosmic ray"] * 2
    assert said.count("error: color_dsprites_seed") == 2
    Path("trouble").unlink()
    status, _, after = sweep(*command, "sweep.resume=true")
    assert (status, list(after)) == (0, list(before))
    steps = len((tmp_path / "multirun_outputs").glob("*/*0_*/metrics.csv").__next__().read_text().splitlines())
    for name, known in after.items():
        assert known["status"] == "finished"
        assert known["run_id"] == before[name]["run_id"]
    status, said, again = sweep(*command, "sweep.resume=true")
    assert (status, again) == (0, after)  # nothing was trained anew: not even a time has changed
    assert steps == len(next((tmp_path / "multirun_outputs").glob("*/*0_*/metrics.csv")).read_text().splitlines())

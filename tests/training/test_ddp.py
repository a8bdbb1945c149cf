"""Two processes that train one model through gloo, against one with the same global batch."""

from __future__ import annotations

import csv
import signal
from pathlib import Path

import pytest
import torch
from torch import distributed

from deft_lightning import DeftError
from deft_lightning.common import results
from deft_lightning.common.errors import Interrupted
from deft_lightning.model.checkpoint import read_checkpoint
from deft_lightning.training import run
from tests.helpers import PLAIN, compose_run

# Slow: every one of the two processes imports torch and Lightning anew.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not distributed.is_gloo_available(), reason="needs gloo"),
]
SHORT = (*PLAIN, "schedule.epochs=[0.34,0.34,0.34,0.34]", "trainer.log_every_n_steps=1")  # 16 steps, with colours
DDP = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.log_every_n_steps=1")


def _parts(folder: Path) -> list[list[float]]:
    """The logged parts of every step's loss."""
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    keys = [key for key in rows[0] if key.startswith("train/")]
    return [[float(row[key]) for key in keys] for row in rows if row["train/loss"]]


OBJECTIVES = {
    "deft": (),
    "deft_tc": ("objective=deft_tc",),
    "dip_vae_ii": ("objective=dip_vae_ii",),
    "factor_vae": ("objective=factor_vae", "objective.hidden=50"),
}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_two_processes_are_one_with_the_same_global_batch(objective: str, tmp_path: Path) -> None:
    overrides = (*SHORT, *OBJECTIVES[objective])
    one = run.train(*compose_run(tmp_path / "one", *overrides))
    two = run.train(*compose_run(tmp_path / "two", *overrides, *DDP))
    assert two["status"] == "finished"
    ours, theirs = torch.tensor(_parts(tmp_path / "two")), torch.tensor(_parts(tmp_path / "one"))
    assert len(theirs) == one["steps"] == 16
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    for name, stage in one["stages"].items():
        assert two["stages"][name]["scores"] == pytest.approx(stage["scores"], rel=1e-5, abs=1e-5)


def test_a_stopped_run_goes_on_and_ends_as_one_that_was_not(tmp_path: Path) -> None:
    run.train(*compose_run(tmp_path / "whole", *SHORT, *DDP))
    stop = ("+callbacks.signal._target_=tests.training.test_resume.Signal", "+callbacks.signal.step=6",
            f"+callbacks.signal.number={int(signal.SIGTERM)}")  # fmt: skip
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match="stopped by SIGTERM at step 7: resume=true goes on"):
        run.train(*compose_run(tmp_path / "run", *SHORT, *DDP, *stop))
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers
    assert results.read(tmp_path / "run")["status"] == "interrupted"
    run.train(*compose_run(tmp_path / "run", *SHORT, *DDP, "resume=true"))
    whole, resumed = (read_checkpoint(tmp_path / n / "checkpoints" / "last.ckpt") for n in ("whole", "run"))
    assert resumed["global_step"] == 16
    for name, value in whole["state_dict"].items():
        assert torch.equal(resumed["state_dict"][name], value), name


def test_what_one_process_says_when_it_fails_is_the_reason(tmp_path: Path) -> None:
    broken = ("data._target_=tests.helpers.BrokenSprites", "+data.after=5")
    with pytest.raises(DeftError, match=r"the loss is nan at step 6 in stage 2"):
        run.train(*compose_run(tmp_path / "run", *SHORT, *DDP, *broken))
    known = results.read(tmp_path / "run")
    assert (known["status"], known["reason"][:15]) == ("failed", "the loss is nan")


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (("trainer.devices=auto",), "trainer.devices is 'auto': give the number of processes"),
        (("trainer.devices=3",), "batch_size is 8, which does not divide among 3 processes"),
    ],
)
def test_what_cannot_be_shared_out_is_refused(overrides: tuple[str, ...], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(DeftError, match=sentence):
        run.train(*compose_run(tmp_path / "run", *SHORT, *DDP, *overrides))
    assert not (tmp_path / "run").exists()

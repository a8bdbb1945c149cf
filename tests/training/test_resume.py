"""A run that was stopped or killed goes on as if nothing had happened."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from deft_lightning import DeftError
from deft_lightning.common import results
from deft_lightning.common.errors import Interrupted
from deft_lightning.model.checkpoint import read_checkpoint
from deft_lightning.training import run
from tests.helpers import PLAIN, compose_run

REPOSITORY = Path(__file__).parents[1]


class Signal(pl.Callback):
    """Sends this process a signal in the middle of a step."""

    def __init__(self, step: int, number: int) -> None:
        self.step, self.number = step, number

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), self.number)


def _send(step: int, number: signal.Signals) -> tuple[str, ...]:
    return ("+callbacks.signal._target_=tests.training.test_resume.Signal", f"+callbacks.signal.step={step}",
            f"+callbacks.signal.number={int(number)}")  # fmt: skip


def _last(folder: Path) -> dict:
    return read_checkpoint(folder / "checkpoints" / "last.ckpt")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "uninterrupted"
    run.train(*compose_run(folder, *PLAIN))
    return folder


def _assert_equal_to_the_bit(resumed: Path, uninterrupted: Path) -> None:
    ours, theirs = _last(resumed), _last(uninterrupted)
    assert ours["global_step"] == theirs["global_step"] == 48
    for name, value in theirs["state_dict"].items():
        assert torch.equal(ours["state_dict"][name], value), name
    for index, state in theirs["optimizer_states"][0]["state"].items():
        for key, value in state.items():
            assert torch.equal(ours["optimizer_states"][0]["state"][index][key], value), (index, key)
    mine, other = results.read(resumed), results.read(uninterrupted)
    assert mine["stages"] == other["stages"]
    assert mine["status"] == "finished"


@pytest.mark.parametrize(
    ("step", "number"),
    [
        (17, signal.SIGTERM),  # in the middle of stage 2 and of an epoch
        (17, signal.SIGINT),
        (23, signal.SIGTERM),  # the last step of an epoch and of a stage
        (24, signal.SIGTERM),  # the first of the next
    ],
)
def test_stopped_and_resumed_equals_uninterrupted(
    step: int, number: signal.Signals, uninterrupted: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match=f"stopped by {number.name} at step {step + 1}: resume=true"):
        run.train(*compose_run(folder, *PLAIN, *_send(step, number)))
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    known = results.read(folder)
    assert (known["status"], known["steps"]) == ("interrupted", step + 1)
    run.train(*compose_run(folder, *PLAIN, "resume=true"))
    _assert_equal_to_the_bit(folder, uninterrupted)
    assert results.read(folder)["run_id"] == known["run_id"]


def test_killed_run_goes_on_from_its_last_checkpoint(uninterrupted: Path, tmp_path: Path) -> None:
    """SIGKILL leaves no time to save: the run goes on from the checkpoint of every 5 steps, and ends the same."""
    folder = tmp_path / "run"
    overrides = [*PLAIN, *_send(17, signal.SIGKILL), "callbacks.checkpoints.every_n_steps=5"]
    code = (
        "from pathlib import Path; from deft_lightning import run; from tests.helpers import compose_run; "
        f"run.train(*compose_run(Path({str(folder)!r}), *{overrides!r}))"
    )
    killed = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert results.read(folder)["status"] == "running"  # nobody could write that it is not
    assert _last(folder)["global_step"] == 15
    run.train(*compose_run(folder, *PLAIN, "resume=true"))
    _assert_equal_to_the_bit(folder, uninterrupted)


def test_a_run_killed_after_its_last_step_is_finished_by_resuming_it(uninterrupted: Path, tmp_path: Path) -> None:
    """Its last checkpoint is saved, and its results say that it is running."""
    folder = tmp_path / "run"
    shutil.copytree(uninterrupted, folder)
    seconds = results.read(folder)["timings"]["train_seconds"]
    results.update(folder, status="running")
    run.train(*compose_run(folder, *PLAIN, "resume=true"))
    _assert_equal_to_the_bit(folder, uninterrupted)
    known = results.read(folder)
    assert known["steps"] == 48
    assert seconds <= known["timings"]["train_seconds"] < seconds + 60
    assert (folder / "metrics.csv").read_text() == (uninterrupted / "metrics.csv").read_text()


def test_metrics_csv_has_every_row_once(uninterrupted: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(Interrupted):
        run.train(*compose_run(folder, *PLAIN, *_send(17, signal.SIGTERM)))
    run.train(*compose_run(folder, *PLAIN, "resume=true"))

    def losses(path: Path) -> list[str]:
        lines = (path / "metrics.csv").read_text().splitlines()
        step, loss = (lines[0].split(",").index(name) for name in ("step", "train/loss"))
        rows = [line.split(",") for line in lines[1:]]
        return [f"{row[step]} {row[loss]}" for row in rows if row[loss]]

    assert losses(folder) == losses(uninterrupted)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (("seed=1",), r"other settings \(seed: 0 -> 1\)"),
        (("groups.gamma=0.5", "lr=0.001"), r"groups.gamma: 0.1 -> 0.5; lr: 0.0005 -> 0.001"),
        (("schedule.pressures=[160,105,30,2]",), r"schedule.pressures: \[160, 105, 30, 1\] -> \[160, 105, 30, 2\]"),
    ],
)
def test_resume_with_other_settings_says_what_differs(changes, sentence: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(Interrupted):
        run.train(*compose_run(folder, *PLAIN, *_send(3, signal.SIGTERM)))
    kept = (folder / "checkpoints" / "last.ckpt").read_bytes()
    with pytest.raises(DeftError, match=sentence):
        run.train(*compose_run(folder, *PLAIN, "resume=true", *changes))
    assert (folder / "checkpoints" / "last.ckpt").read_bytes() == kept


def test_resume_on_other_pixels_is_refused(tmp_path: Path) -> None:
    """source=auto may find a file that was not there when the run began: the two must not be mixed."""
    folder = tmp_path / "run"
    with pytest.raises(Interrupted):
        run.train(*compose_run(folder, *PLAIN, *_send(3, signal.SIGTERM)))
    results.update(folder, data={"source": "published"})
    with pytest.raises(DeftError, match="began on images whose source is published, and now it is rendered"):
        run.train(*compose_run(folder, *PLAIN, "resume=true"))


def test_damaged_and_foreign_checkpoints_are_one_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(Interrupted):
        run.train(*compose_run(folder, *PLAIN, *_send(15, signal.SIGTERM)))
    last = folder / "checkpoints" / "last.ckpt"
    whole = last.read_bytes()
    last.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DeftError, match=r"last.ckpt is damaged or not a checkpoint .* take another"):
        run.train(*compose_run(folder, *PLAIN, "resume=true"))
    torch.save({"state_dict": {}}, last)
    with pytest.raises(DeftError, match="was not written by deft_lightning"):
        run.train(*compose_run(folder, *PLAIN, "resume=true"))
    shutil.copy(folder / "checkpoints" / "stage_1.ckpt", last)  # what the sentence says to do
    run.train(*compose_run(folder, *PLAIN, "resume=true"))
    assert results.read(folder)["status"] == "finished"


def test_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(DeftError, match="holds no run to resume"):
        run.train(*compose_run(tmp_path / "empty", "resume=true"))


def test_what_the_objective_learns_is_resumed_too(tmp_path: Path) -> None:
    """FactorVAE's discriminator and its Adam state are in the checkpoint: weights equal to the bit."""
    factor_vae = (
        "objective=factor_vae",
        "objective.hidden=32",
        "objective.layers=2",
        "schedule.epochs=[0.5,0.5,0.5,0.5]",
    )
    run.train(*compose_run(tmp_path / "whole", *PLAIN, *factor_vae))
    with pytest.raises(Interrupted):
        run.train(*compose_run(tmp_path / "run", *PLAIN, *factor_vae, *_send(9, signal.SIGTERM)))
    run.train(*compose_run(tmp_path / "run", *PLAIN, *factor_vae, "resume=true"))
    ours, theirs = _last(tmp_path / "run")["state_dict"], _last(tmp_path / "whole")["state_dict"]
    discriminator = [name for name in theirs if name.startswith("objective.discriminator")]
    assert discriminator
    extra = "objective._extra_state"
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs if name != extra)
    for index, moments in theirs[extra].items():
        assert all(torch.equal(ours[extra][index][key], value) for key, value in moments.items())


@pytest.mark.parametrize("step", [23, 24])  # stopped at the boundary of two stages, and one step after it
@pytest.mark.parametrize("variant", ["groups.inactive=prior", "groups.adam_at_switch=reset", "groups.inactive=frozen"])
def test_variants_of_the_groups_are_resumed_as_well(variant: str, step: int, tmp_path: Path) -> None:
    short = (*PLAIN, "~callbacks.kl_decomposition", variant)
    run.train(*compose_run(tmp_path / "whole", *short))
    with pytest.raises(Interrupted):
        run.train(*compose_run(tmp_path / "run", *short, *_send(step, signal.SIGTERM)))
    run.train(*compose_run(tmp_path / "run", *short, "resume=true"))
    _assert_equal_to_the_bit(tmp_path / "run", tmp_path / "whole")


def test_another_precision_is_not_resumed(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        run.train(*compose_run(tmp_path / "run", *PLAIN, *_send(5, signal.SIGTERM)))
    with pytest.raises(DeftError, match=r"trainer.precision: 32-true -> bf16-mixed"):
        run.train(*compose_run(tmp_path / "run", *PLAIN, "trainer.precision=bf16-mixed", "resume=true"))

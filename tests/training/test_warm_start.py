"""Runs that begin where another run was: `init_from`, and a trunk shared by the jobs of a sweep."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from deft_lightning import DeftError
from deft_lightning.common import results
from deft_lightning.model.checkpoint import read_checkpoint
from deft_lightning.training import run
from tests.helpers import PLAIN, compose_run

TWO_STAGES = (
    "groups=deft2",
    "schedule.epochs=[1,1]",
    "schedule.pressures=[70,30]",
    *PLAIN,
    "~callbacks.kl_decomposition",
)


def _weights(folder: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return read_checkpoint(folder / "checkpoints" / f"{name}.ckpt")["state_dict"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two stages, gamma 0.1."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run.train(*compose_run(folder, *TWO_STAGES))
    return folder


def test_a_branch_with_the_same_settings_is_the_run_itself(whole: Path, tmp_path: Path) -> None:
    """Weights, Adam state, data order and noise go on as if the run had not been left."""
    checkpoint = whole / "checkpoints" / "stage_1.ckpt"
    outcome = run.train(*compose_run(tmp_path / "branch", *TWO_STAGES, f"init_from={checkpoint}"))
    assert outcome["status"] == "finished"
    assert list(outcome["stages"]) == ["stage_2"]
    assert outcome["stages"]["stage_2"]["scores"] == results.read(whole)["stages"]["stage_2"]["scores"]
    branch, original = _weights(tmp_path / "branch"), _weights(whole)
    assert all(torch.equal(branch[name], original[name]) for name in original)


def test_runs_with_another_gamma_share_their_trunk(whole: Path, tmp_path: Path) -> None:
    trunk = ("+trunk={stages:1,gamma:0.1,folder:" + str(tmp_path / "trunk") + "}",)
    folders = {gamma: tmp_path / f"gamma_{gamma}" for gamma in (0, 0.1, 1)}
    for gamma, folder in folders.items():
        run.train(*compose_run(folder, *TWO_STAGES, *trunk, f"groups.gamma={gamma}"))
    known = results.read(tmp_path / "trunk")
    assert (known["status"], list(known["stages"]), known["steps"]) == ("finished", ["stage_1"], 12)
    ends = {gamma: _weights(folder) for gamma, folder in folders.items()}
    first_stage = _weights(tmp_path / "trunk", "stage_1")
    assert all(torch.equal(first_stage[k], v) for k, v in _weights(whole, "stage_1").items())
    assert all(torch.equal(ends[0.1][k], v) for k, v in _weights(whole).items())
    inactive = [k for k in first_stage if k.startswith("encoder.groups.0")]
    assert all(torch.equal(ends[0][k], first_stage[k]) for k in inactive)  # gamma 0: the first group stays
    assert not any(torch.equal(ends[1][k], first_stage[k]) for k in inactive)

    with pytest.raises(DeftError, match=r"the trunk in .* was trained with other settings \(lr: 0.0005 -> 0.001\)"):
        run.train(*compose_run(tmp_path / "other", *TWO_STAGES, *trunk, "lr=0.001"))


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (("init_from={missing}",), "there is no checkpoint .*missing.ckpt"),
        (("init_from={last}",), "is at step 24 and the schedule ends at 24: there is nothing left to train"),
        (("init_from={stage_1}", "groups=deft4"), "is of another model than the configuration"),
        (("init_from={stage_1}", "seed=3"), "seed is 3, but the checkpoint.s data order has seed 0"),
        (("init_from={stage_1}", "+trunk={{stages:1,gamma:0.1,folder:x}}"), "init_from and trunk both say"),
        (("+trunk={{stages:2,gamma:0.1,folder:x}}",), "trunk.stages is 2: .* here 1 to 1"),
        (
            ("init_from={stage_1}", "data._target_=tests.helpers.PaintedSprites"),
            "began on images whose source is rendered",
        ),
        (("+trunk={{stages:1}}",), "give its stages, gamma and folder, or null"),
    ],
)
def test_what_cannot_be_branched_from(overrides: tuple[str, ...], sentence: str, whole: Path, tmp_path: Path) -> None:
    checkpoints = whole / "checkpoints"
    paths = {name: checkpoints / f"{name}.ckpt" for name in ("last", "stage_1", "missing")}
    given = [override.format(**paths) for override in overrides]
    with pytest.raises(DeftError, match=sentence):
        run.train(*compose_run(tmp_path / "run", *TWO_STAGES, *given))

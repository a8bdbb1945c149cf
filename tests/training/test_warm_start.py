"""Runs that start from the checkpoint of another run: `init_from`, and stages shared by the jobs of a sweep."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from deft_lightning import DeftError
from deft_lightning.common import results
from deft_lightning.model.checkpoint import read_checkpoint
from deft_lightning.training import run
from tests.conftest import MakeOnce
from tests.helpers import BARE, compose_run

pytestmark = pytest.mark.slow  # together: some ten short trainings

TWO_STAGES = (
    "groups=deft2",
    "schedule.epochs=[1,1]",
    "schedule.pressures=[70,30]",
    *BARE,
)


def _weights(folder: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return read_checkpoint(folder / "checkpoints" / f"{name}.ckpt")["state_dict"]


@pytest.fixture(scope="session")
def whole(make_once: MakeOnce) -> Path:
    """A run of two stages with gamma 0.1."""
    return make_once("two_stages", lambda folder: run.train(*compose_run(folder, *TWO_STAGES)))


def test_a_branch_with_the_same_settings_is_the_run_itself(whole: Path, tmp_path: Path) -> None:
    """Weights, Adam state, data order and noise continue as in the run that it starts from."""
    checkpoint = whole / "checkpoints" / "stage_1.ckpt"
    outcome = run.train(*compose_run(tmp_path / "branch", *TWO_STAGES, f"init_from={checkpoint}"))
    assert outcome["status"] == "finished"
    assert list(outcome["stages"]) == ["stage_2"]
    assert outcome["stages"]["stage_2"]["scores"] == results.read(whole)["stages"]["stage_2"]["scores"]
    branch, original = _weights(tmp_path / "branch"), _weights(whole)
    assert all(torch.equal(branch[name], original[name]) for name in original)


def test_runs_with_another_gamma_share_their_first_stage(whole: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared_stages = "shared_stages={stages:1,gamma:0.1,folder:" + str(shared) + "}"
    folders = {gamma: tmp_path / f"gamma_{gamma}" for gamma in (0, 0.1, 1)}
    for gamma, folder in folders.items():
        run.train(*compose_run(folder, *TWO_STAGES, shared_stages, f"groups.gamma={gamma}"))
    outcome = results.read(shared)
    assert (outcome["status"], list(outcome["stages"]), outcome["steps"]) == ("finished", ["stage_1"], 12)
    ends = {gamma: _weights(folder) for gamma, folder in folders.items()}
    first_stage = _weights(shared, "stage_1")
    assert all(torch.equal(first_stage[k], v) for k, v in _weights(whole, "stage_1").items())
    assert all(torch.equal(ends[0.1][k], v) for k, v in _weights(whole).items())
    inactive = [k for k in first_stage if k.startswith("encoder.groups.0")]
    assert all(torch.equal(ends[0][k], first_stage[k]) for k in inactive)  # gamma 0: the first group stays
    assert not any(torch.equal(ends[1][k], first_stage[k]) for k in inactive)

    sentence = r"the shared stages in .* were trained with other settings \(lr: 0.0005 -> 0.001\)"
    with pytest.raises(DeftError, match=sentence):
        run.train(*compose_run(tmp_path / "other", *TWO_STAGES, shared_stages, "lr=0.001"))


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (("init_from={missing}",), "there is no checkpoint .*missing.ckpt"),
        (("init_from={last}",), "is at step 24 and the schedule ends at 24: there is nothing left to train"),
        (("init_from={stage_1}", "groups=deft4"), "is of another model than the configuration"),
        (("init_from={stage_1}", "seed=3"), "seed is 3, but the checkpoint's data order has seed 0"),
        (
            ("init_from={stage_1}", "shared_stages={{stages:1,gamma:0.1,folder:x}}"),
            "init_from and shared_stages both say",
        ),
        (("shared_stages={{stages:2,gamma:0.1,folder:x}}",), "shared_stages.stages is 2: .* here 1 to 1"),
        (
            ("init_from={stage_1}", "data._target_=tests.helpers.PaintedSprites"),
            "began on images whose source is rendered",
        ),
        (
            ("shared_stages={{stages:1,gamma:0.1,folder:/dev/null/x}}",),
            r"cannot be written .*: choose another folder with shared_stages\.folder",
        ),
        (("shared_stages={{stages:1}}",), "give its stages, gamma and folder, or null"),
    ],
)
def test_what_cannot_be_branched_from(overrides: tuple[str, ...], sentence: str, whole: Path, tmp_path: Path) -> None:
    checkpoints = whole / "checkpoints"
    paths = {name: checkpoints / f"{name}.ckpt" for name in ("last", "stage_1", "missing")}
    overrides = tuple(override.format(**paths) for override in overrides)
    with pytest.raises(DeftError, match=sentence):
        run.train(*compose_run(tmp_path / "run", *TWO_STAGES, *overrides))


def test_the_optimiser_of_the_configuration_is_used_and_not_that_of_the_checkpoint(whole: Path, tmp_path: Path) -> None:
    start = f"init_from={whole / 'checkpoints' / 'stage_1.ckpt'}"
    run.train(*compose_run(tmp_path / "run", *TWO_STAGES, start, "optimizer.weight_decay=0.3", "optimizer.eps=1e-6"))
    groups = read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")["optimizer_states"][0]["param_groups"]
    assert {(group["weight_decay"], group["eps"]) for group in groups} == {(0.3, 1e-6)}
    assert not torch.equal(*(next(iter(_weights(folder).values())) for folder in (tmp_path / "run", whole)))


def test_stages_whose_pressures_are_found_cannot_be_shared(tmp_path: Path) -> None:
    base = ("+experiment=dsprites", "scale=smoke", "trainer=cpu", "logger=csv")
    distil = ("schedule=distil", "shared_stages={stages:1,gamma:0.1,folder:x}")
    with pytest.raises(DeftError, match="shared_stages needs stages with given pressures"):
        run.train(*compose_run(tmp_path / "run", *distil, base=base))

"""Groups, schedules and objectives: what they compute, and which arguments they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from deft_lightning import DEFT, Bernoulli, BetaVAE, Constant, DeftError, Groups, Piecewise
from deft_lightning.common import results
from deft_lightning.model.networks import Posterior
from deft_lightning.training import run_folder


def test_boundaries_are_cumulative_epochs() -> None:
    assert Piecewise([2, 2, 4, 15], [70, 30, 12, 1]).timeline(100).boundaries == (200, 400, 800, 2300)
    assert Piecewise([0.5, 0.25], [2, 1]).timeline(100).boundaries == (50, 75)


def test_no_stage_is_skipped_however_short() -> None:
    assert Piecewise([1, 1, 1], [3, 2, 1], fraction=0.001).timeline(10).boundaries == (1, 2, 3)


def test_the_last_stage_continues_after_the_schedule_has_ended() -> None:
    assert Piecewise([1, 1], [7, 3]).timeline(10).at(10**9).pressure == 3


def test_constant_is_one_stage() -> None:
    schedule = Constant(pressure=6, epochs=23)
    timeline = schedule.timeline(10)
    assert (schedule.stages, timeline.at(0).pressure, timeline.boundaries, timeline.length) == (1, 6, (230,), 230)


def test_rates_of_groups() -> None:
    assert Groups([3, 3, 2, 2], 0.1).learning_rates(2, 1.0) == (0.1, 0.1, 1.0, 0.1)
    assert Groups([10]).learning_rates(3, 1.0) == (1.0,)  # one normal encoder under piecewise pressures, Fig. 10


def test_latents_of_a_group() -> None:
    groups = Groups([3, 3, 2, 2], inactive="prior")
    assert [list(range(10))[groups.latent_slice(group)] for group in range(4)] == [[0, 1, 2], [3, 4, 5], [6, 7], [8, 9]]
    assert [sum(groups.latent_mask_at(stage)) for stage in range(4)] == [3, 6, 8, 10]
    assert all(all(Groups([3, 3, 2, 2]).latent_mask_at(stage)) for stage in range(4))


def test_loss_of_a_vae_by_hand() -> None:
    """R summed over pixels and KL summed over latents, both averaged over the batch."""
    batch = torch.tensor([0.0, 1.0, 0.25]).view(3, 1, 1, 1).expand(3, 2, 4, 4)
    logits = torch.full((3, 2, 4, 4), 0.7)
    posterior = Posterior(torch.full((3, 5), 0.3), torch.full((3, 5), -0.4))
    loss = BetaVAE().loss(Bernoulli().nll(logits, batch), posterior, posterior.mean, torch.tensor(12.0))
    p = torch.sigmoid(torch.tensor(0.7))
    expected = -sum(x * p.log() + (1 - x) * (1 - p).log() for x in (0.0, 1.0, 0.25)) / 3 * 32
    kl = 5 * 0.5 * (0.3**2 + torch.exp(torch.tensor(-0.4)) - 1 + 0.4)
    torch.testing.assert_close(loss.parts["reconstruction"], expected)
    torch.testing.assert_close(loss.parts["kl"], kl)
    torch.testing.assert_close(loss.total, expected + 12 * kl)


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: Piecewise([1, 1, 1], [4, 3, 2, 1]), r"schedule.pressures has 4 values and schedule.epochs has 3"),
        (lambda: Piecewise([1, 0], [2, 1]), r"longer than 0 epochs"),
        (lambda: Piecewise([1, 1], [2, -1]), r"cannot be negative"),
        (lambda: Piecewise(["a", 1], [2, 1]), r"schedule.epochs holds 'a', which is not a number"),
        (lambda: Piecewise([], []), r"give a list of numbers"),
        (lambda: Piecewise([1], [1], fraction=2), r"scale.fraction is 2"),
        (lambda: Constant(pressure=[1, 2], epochs=5), r"schedule.pressure is \[1, 2\]: give a number from 0 up"),
        (lambda: Groups([3, 3, 2, 2], 1.5), r"groups.gamma is 1.5: give a number from 0 to 1"),
        (lambda: Groups([3, 3, 2, 2], -0.1), r"groups.gamma is -0.1"),
        (lambda: Groups([]), r"groups.latents is \[\]"),
        (lambda: Groups([3, 0]), r"groups.latents is \[3, 0\]"),
        (lambda: Groups("33"), r"groups.latents is '33'"),
        (
            lambda: DEFT(Groups([5, 5]), Piecewise([1] * 4, [4, 3, 2, 1]), BetaVAE()),
            r"the schedule has 4 stages and groups.latents has 2 groups",
        ),
        (
            lambda: DEFT(Groups([10]), Constant(pressure=1, epochs=1), BetaVAE(), image_shape=(1, 48, 48)),
            r"images of 48 x 48 do not fit the networks, which take sizes of 32, 64, 128",
        ),
    ],
)
def test_bad_arguments_are_one_sentence(build, sentence: str) -> None:
    with pytest.raises(DeftError, match=sentence) as caught:
        build()
    assert "\n" not in str(caught.value)


def test_resume_takes_the_run_of_this_seed_and_not_of_one_that_begins_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("2026-01-01_seed1", "2026-01-02_seed1_2", "2026-01-03_seed10"):
        (tmp_path / "outputs" / "deft" / name).mkdir(parents=True)
        results.update(tmp_path / "outputs" / "deft" / name, status="interrupted")
    assert run_folder.choose("deft", 1, True) == "outputs/deft/2026-01-02_seed1_2"
    assert run_folder.choose("deft", 10, True) == "outputs/deft/2026-01-03_seed10"

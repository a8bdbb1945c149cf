"""Algorithm 1: the learning rate of every group in every stage, measured on the parameters."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from deft_lightning import DEFT, BetaVAE, FactorDataModule, Groups, Piecewise
from tests.helpers import TinySprites, plain_trainer, tiny_module

LR, ADAM_EPSILON = 5e-4, 1e-8


class GradientKeeper(pl.Callback):
    """Keeps the parameters before the first step, and the gradients of that step."""

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        self.before = {name: p.detach().clone() for name, p in pl_module.named_parameters()}
        self.gradients = {name: p.grad.clone() for name, p in pl_module.named_parameters()}


def _one_step(folder: Path, gamma: float) -> tuple[DEFT, GradientKeeper]:
    """One training step in the first stage."""
    data = FactorDataModule(TinySprites(3), batch_size=8)
    module = DEFT(Groups([3, 3, 2, 2], gamma), Piecewise([1, 1, 1, 1], [70, 30, 12, 1]), BetaVAE(), lr=LR)
    keeper = GradientKeeper()
    plain_trainer(folder, keeper, max_steps=1).fit(module, data)
    return module, keeper


@pytest.mark.parametrize("gamma", [0.1, 0.5])
def test_first_step_moves_each_group_by_its_own_rate_times_adams_direction(tmp_path: Path, gamma: float) -> None:
    module, keeper = _one_step(tmp_path, gamma)
    moved = 0
    for name, parameter in module.named_parameters():
        gradient = keeper.gradients[name]
        # Adam's first step, bias corrected, goes along g / (|g| + epsilon)
        direction = gradient / (gradient.abs() + ADAM_EPSILON)
        inactive = name.startswith("encoder.groups.") and not name.startswith("encoder.groups.0.")
        rate = gamma * LR if inactive else LR
        torch.testing.assert_close(
            keeper.before[name] - parameter.detach(), rate * direction, rtol=2e-3, atol=2e-7, msg=name
        )
        moved += int((direction != 0).sum())
    assert moved > 100_000  # the gradients reach the networks


def test_gamma_0_leaves_the_inactive_groups_untouched(tmp_path: Path) -> None:
    module, keeper = _one_step(tmp_path, gamma=0.0)
    for name, parameter in module.named_parameters():
        inactive = name.startswith("encoder.groups.") and not name.startswith("encoder.groups.0.")
        assert torch.equal(keeper.before[name], parameter) == inactive, name


def test_the_active_group_follows_the_stage(tmp_path: Path) -> None:
    """Over a run of four stages every group has the full rate in its own stage and gamma of it in the others."""
    seen: list[tuple[float, ...]] = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
            groups = trainer.optimizers[0].param_groups
            assert [g["name"] for g in groups] == [f"encoder/{i}" for i in range(4)] + ["decoder"]
            seen.append(tuple(g["lr"] for g in groups))

    data = FactorDataModule(TinySprites(1), batch_size=32)  # 3 steps an epoch
    module = DEFT(
        Groups([3, 3, 2, 2], 0.1), Piecewise([1, 1, 1, 1], [70, 30, 12, 1]), BetaVAE(), image_shape=(1, 64, 64), lr=LR
    )
    plain_trainer(tmp_path, Watch(), max_epochs=4).fit(module, data)
    expected = [tuple(LR if g in (stage, 4) else 0.1 * LR for g in range(5)) for stage in range(4) for _ in range(3)]
    assert seen == [pytest.approx(rates) for rates in expected]


def test_the_pressure_of_the_stage_weights_the_kl(tmp_path: Path) -> None:
    """loss = reconstruction + beta_j KL, with beta_j of the step's stage (Eq. 2)."""
    logged: list[dict[str, float]] = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
            logged.append({k: float(v) for k, v in trainer.callback_metrics.items()})

    data = FactorDataModule(TinySprites(1), batch_size=48)  # 2 steps an epoch
    pressures = [70, 30, 12, 1]
    module = tiny_module(schedule=Piecewise([1, 1, 1, 1], pressures))
    plain_trainer(tmp_path, Watch(), max_epochs=4, log_every_n_steps=1).fit(module, data)
    assert len(logged) == 8
    for step, parts in enumerate(logged):
        kl = sum(parts[f"train/kl/latent_{j:02d}"] for j in range(10))
        assert parts["train/kl"] == pytest.approx(kl, rel=1e-4)
        expected = parts["train/reconstruction"] + pressures[step // 2] * parts["train/kl"]
        assert parts["train/loss"] == pytest.approx(expected, rel=1e-5)

"""Algorithm 1: who learns how fast in which stage, measured on the parameters themselves."""

from __future__ import annotations

import pytest
import pytorch_lightning as pl
import torch

from deft_lightning import DEFT, BetaVAE, FactorDataModule, Groups, Piecewise
from tests.helpers import TinySprites

LR, ADAM_EPSILON = 5e-4, 1e-8


class GradientKeeper(pl.Callback):
    """Remembers parameters before, and gradients at, the first step."""

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        self.before = {name: p.detach().clone() for name, p in pl_module.named_parameters()}
        self.gradients = {name: p.grad.clone() for name, p in pl_module.named_parameters()}


def _one_step(first_stage_steps: int, gamma: float) -> tuple[DEFT, GradientKeeper]:
    """One training step, in stage 1, or in stage 2 where the first stage has no steps left."""
    data = FactorDataModule(TinySprites(3), batch_size=8)
    module = DEFT(Groups([3, 3, 2, 2], gamma), Piecewise([1, 1, 1, 1], [70, 30, 12, 1]), BetaVAE(), lr=LR)
    module._steps_per_epoch = first_stage_steps
    keeper = GradientKeeper()
    pl.Trainer(
        max_steps=1,
        accelerator="cpu",
        logger=False,
        callbacks=[keeper],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(module, data)
    return module, keeper


@pytest.mark.parametrize("gamma", [0.1, 0.5])
def test_first_step_moves_each_group_by_its_own_rate_times_adams_direction(gamma: float) -> None:
    module, keeper = _one_step(first_stage_steps=100, gamma=gamma)
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


def test_gamma_0_leaves_the_inactive_groups_untouched() -> None:
    module, keeper = _one_step(first_stage_steps=100, gamma=0.0)
    for name, parameter in module.named_parameters():
        inactive = name.startswith("encoder.groups.") and not name.startswith("encoder.groups.0.")
        assert torch.equal(keeper.before[name], parameter) == inactive, name


def test_the_active_group_follows_the_stage() -> None:
    """Over a run of four stages every group has the full rate in its own stage and gamma of it in the others."""
    seen: list[tuple[float, ...]] = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
            groups = trainer.optimizers[0].param_groups
            assert [g["name"] for g in groups] == [f"encoder/{i}" for i in range(4)] + ["decoder"]
            seen.append(tuple(g["lr"] for g in groups))

    data = FactorDataModule(TinySprites(1), batch_size=32)  # 3 steps an epoch
    module = DEFT(Groups([3, 3, 2, 2], 0.1), Piecewise([1, 1, 1, 1], [70, 30, 12, 1]), BetaVAE(), (1, 64, 64), lr=LR)
    pl.Trainer(
        max_epochs=4,
        accelerator="cpu",
        logger=False,
        callbacks=[Watch()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(module, data)
    expected = [tuple(LR if g in (stage, 4) else 0.1 * LR for g in range(5)) for stage in range(4) for _ in range(3)]
    assert seen == [pytest.approx(rates) for rates in expected]


def test_the_pressure_of_the_stage_weighs_the_kl() -> None:
    """loss = reconstruction + beta_j KL, with beta_j of the step's stage (Eq. 2)."""
    logged: list[dict[str, float]] = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
            logged.append({k: float(v) for k, v in trainer.callback_metrics.items()})

    data = FactorDataModule(TinySprites(1), batch_size=48)  # 2 steps an epoch
    pressures = [70, 30, 12, 1]
    module = DEFT(Groups([3, 3, 2, 2]), Piecewise([1, 1, 1, 1], pressures), BetaVAE(), (1, 64, 64))
    pl.Trainer(
        max_epochs=4,
        accelerator="cpu",
        logger=False,
        callbacks=[Watch()],
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(module, data)
    assert len(logged) == 8
    for step, parts in enumerate(logged):
        kl = sum(parts[f"train/kl/latent_{j:02d}"] for j in range(10))
        assert parts["train/kl"] == pytest.approx(kl, rel=1e-4)
        expected = parts["train/reconstruction"] + pressures[step // 2] * parts["train/kl"]
        assert parts["train/loss"] == pytest.approx(expected, rel=1e-5)

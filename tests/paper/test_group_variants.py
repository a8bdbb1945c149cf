"""The variants of Algorithm 1: what an inactive group may do, and why gamma is on the learning rate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from deft_lightning import DEFT, BetaVAE, FactorDataModule, Groups, Piecewise
from deft_lightning.model.module import scale_gradients
from tests.helpers import TinySprites, plain_trainer

pytestmark = pytest.mark.slow  # trains runs

GAMMA = 0.1


class Watch(pl.Callback):
    """How far every encoder group moved in each step, and what its latents' KL was before it."""

    def __init__(self) -> None:
        self.moved: list[list[float]] = []
        self.kl: list[list[float]] = []

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self._before = [_flat(group) for group in pl_module.encoder.groups]
        self._batch = batch

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        after = [_flat(group) for group in pl_module.encoder.groups]
        self.moved.append([float((b - a).abs().max()) for a, b in zip(self._before, after, strict=True)])
        with torch.no_grad():
            kl = pl_module.encode(batch).kl().mean(dim=0)  # [D]
        self.kl.append([float(part.sum()) for part in kl.split(list(pl_module.groups.latents))])


def _flat(group: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten().clone() for p in group.parameters()])


def _fit(folder: Path, *watchers: pl.Callback, **variant: Any) -> DEFT:
    module = DEFT(
        Groups([2, 2, 2], gamma=GAMMA, **variant), Piecewise([1, 1, 1], [8, 4, 1]), BetaVAE(), image_shape=(1, 64, 64)
    )
    data = FactorDataModule(TinySprites(), batch_size=32)  # 3 steps an epoch
    plain_trainer(folder, *watchers, max_epochs=3).fit(module, data)
    return module


def test_frozen_groups_of_earlier_stages_do_not_move(tmp_path: Path) -> None:
    watch = Watch()
    _fit(tmp_path, watch, inactive="frozen")
    still = [[distance == 0 for distance in step] for step in watch.moved]
    assert still[:3] == [[False, False, False]] * 3  # later groups learn, slowly
    assert still[3:6] == [[True, False, False]] * 3
    assert still[6:] == [[True, True, False]] * 3


def test_prior_groups_have_no_kl_until_their_stage(tmp_path: Path) -> None:
    watch = Watch()
    module = _fit(tmp_path, watch, inactive="prior")
    silent = [[kl == 0 for kl in step] for step in watch.kl]
    assert silent == [[False, True, True]] * 3 + [[False, False, True]] * 3 + [[False, False, False]] * 3
    assert [distance == 0 for distance in watch.moved[0]] == [False, True, True]  # nothing to learn from
    assert module.latent_mask.tolist() == [1.0] * 6


def test_prior_is_in_the_checkpoint(tmp_path: Path) -> None:
    """A model taken from a checkpoint of stage 1 encodes as it did then, without a trainer that knows the stage."""
    module = DEFT(Groups([2, 2], inactive="prior"), Piecewise([1, 1], [8, 4]), BetaVAE(), image_shape=(1, 64, 64))
    images = torch.rand(4, 1, 64, 64)
    assert torch.equal(module.encode(images).mean[:, 2:], torch.zeros(4, 2))
    module.latent_mask.fill_(1.0)  # its last stage
    other = DEFT(Groups([2, 2], inactive="prior"), Piecewise([1, 1], [8, 4]), BetaVAE(), image_shape=(1, 64, 64))
    other.load_state_dict(module.state_dict())
    assert bool((other.encode(images).mean[:, 2:] != 0).all())


def test_reset_restarts_adam_in_every_stage(tmp_path: Path) -> None:
    """Adam's first step is the learning rate itself, whatever the gradient: lr1 x sign."""

    class Counts(pl.Callback):
        steps: list[int]

        def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
            self.steps = []

        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            state = trainer.optimizers[0].state
            self.steps.append(int(next(iter(state.values()))["step"]))

    kept, reset, watch = Counts(), Counts(), Watch()
    _fit(tmp_path / "kept", kept)
    _fit(tmp_path / "reset", reset, watch, adam_at_switch="reset")
    assert kept.steps == list(range(1, 10))
    assert reset.steps == [1, 2, 3] * 3
    assert watch.moved[3] == pytest.approx([GAMMA * 5e-4, 5e-4, GAMMA * 5e-4], rel=1e-3)


def test_gamma_on_the_gradient_scales_what_adam_sees(tmp_path: Path) -> None:
    """The same first gradient in both variants: Adam's first moment, 0.1 of it, then differs by gamma."""

    class FirstMoment(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
            if trainer.global_step == 1:
                state = trainer.optimizers[0].state
                groups = pl_module.encoder.groups
                self.norms = [max(float(state[p]["exp_avg"].norm()) for p in g.parameters()) for g in groups]
                self.rates = [g["lr"] for g in trainer.optimizers[0].param_groups]

    rate, gradient = FirstMoment(), FirstMoment()
    _fit(tmp_path / "rate", rate)
    _fit(tmp_path / "gradient", gradient, gamma_on="gradient")
    ratios = [g / r for g, r in zip(gradient.norms, rate.norms, strict=True)]
    assert ratios == pytest.approx([1, GAMMA, GAMMA], rel=1e-4)
    assert gradient.rates == pytest.approx([5e-4] * 4)


def test_gamma_on_the_gradient_fades_under_adam() -> None:
    """After a drop of the gradient to a tenth the step is a tenth at first, and within 10,000 steps what it was.

    The shortest stage of Table 1 lasts 23,040 steps. The numbers are those a noisy gradient gave; a steady one, as
    here, stays within 0.03 of them.
    """
    weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = torch.optim.Adam([weight], lr=1.0)

    def step(scale: float) -> float:
        before = float(weight.detach())
        weight.grad = torch.ones_like(weight)
        scale_gradients([weight], scale)
        optimizer.step()
        return before - float(weight.detach())

    for _ in range(10_000):
        step(1.0)
    assert step(1.0) == pytest.approx(1.0, abs=1e-3)
    relative = [step(GAMMA) for _ in range(10_000)]
    assert [relative[n - 1] for n in (50, 2300, 4600, 10_000)] == pytest.approx([0.13, 0.29, 0.73, 1.0], abs=0.03)


def test_gamma_on_the_learning_rate_does_not_fade() -> None:
    assert Groups([3, 3], GAMMA).learning_rates(0, 1.0) == (1.0, GAMMA)
    assert Groups([3, 3], GAMMA, gamma_on="gradient").learning_rates(0, 1.0) == (1.0, 1.0)
    assert Groups([3, 3], 0.0, gamma_on="gradient").learning_rates(0, 1.0) == (1.0, 0.0)  # 0 is 0 either way

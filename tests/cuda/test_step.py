"""A training step on a GPU: it equals that of the CPU, is replayed as a graph, and waits for nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from deft_lightning import DEFT, Capacity, FactorDataModule, Groups, Piecewise
from deft_lightning.model.likelihoods import Bernoulli, ContinuousBernoulli, Gaussian, LearntGaussian, Likelihood
from deft_lightning.model.networks import Locatello, Networks, Residual
from deft_lightning.model.objectives import BetaVAE, Objective
from tests.data.test_ahead import Mapped
from tests.helpers import TinySprites, plain_trainer
from tests.model.objectives.makers import MAKERS

SHAPE, BATCH = (3, 64, 64), 16


def model(objective: Objective | None = None, **options: Any) -> DEFT:
    objective = objective or BetaVAE()
    by_capacity = objective.quantity == "capacity"
    schedule = Capacity(c_max=4, increase_steps=5, steps=10) if by_capacity else Piecewise([1, 1], [4, 1])
    groups = options.pop("groups", None) or Groups([3, 2])
    result = DEFT(groups, schedule, objective, image_shape=SHAPE, steps_per_epoch=6, lr=2e-3, **options)
    result.objective.dataset_size = 96
    return result


def losses(module: DEFT, device: torch.device, steps: int = 6, precision: str = "fp32") -> Tensor:
    """The losses [steps] of a training on the same images, noise and pressures on every device.

    It learns so fast that the losses of the steps differ by more than the tests allow.
    """
    module.to(device)
    optimizer = module.configure_optimizers()
    total = []
    for step in range(steps):
        random = torch.Generator().manual_seed(step)
        images = torch.rand(BATCH, *SHAPE, generator=random).pow(4).contiguous(memory_format=torch.channels_last)
        noise, pressure = torch.randn(BATCH, 5, generator=random), torch.tensor(4.0 - step // 3)
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            loss = module.compute_loss(images.to(device), noise.to(device), pressure.to(device)).total
        total.append(loss.detach().clone())  # a replay overwrites it
        loss.backward()
        optimizer.step()
        if module.objective.learns:
            module.objective.update(module.sample, torch.Generator(device).manual_seed(step))
    return torch.stack(total).cpu()


def require_graph(module: DEFT, device: torch.device) -> None:
    """The step has not fallen back to the plain one, and Inductor has not skipped the graph."""
    if device.type == "cuda":
        assert module._step.__name__ == "graphed"  # type: ignore[union-attr]
        if module.objective.learns:
            assert module.objective._classify.__name__ == "graphed"  # type: ignore[operator, union-attr]
        assert counters["inductor"]["cudagraph_skips"] == 0


@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "graph"])
@pytest.mark.parametrize("name", MAKERS)
def test_every_objective_trains_as_on_the_cpu(name: str, compiled: bool, device: torch.device) -> None:
    module = model(MAKERS[name](), compiled=compiled)
    ours, theirs = losses(module, device), losses(model(MAKERS[name]()), torch.device("cpu"))
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=0.5)
    if compiled:
        require_graph(module, device)


def test_a_graphed_update_trains_the_discriminator_as_a_plain_one_does(device: torch.device) -> None:
    """On the same device, since the permutations are drawn there."""
    graphed, plain = (model(MAKERS["factor_vae"](), compiled=compiled) for compiled in (True, False))
    before = [weights.clone() for weights in plain.objective.parameters()]
    for module in (graphed, plain):
        losses(module, device)
    require_graph(graphed, device)
    for ours, theirs, first in zip(graphed.objective.parameters(), plain.objective.parameters(), before, strict=True):
        moved = float((theirs.cpu() - first).abs().max())
        assert moved > 1e-4
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0.2 * moved)


@pytest.mark.parametrize("likelihood", [Bernoulli, Gaussian, LearntGaussian, ContinuousBernoulli])
def test_every_likelihood_trains_as_on_the_cpu(likelihood: type[Likelihood], device: torch.device) -> None:
    module = model(likelihood=likelihood(), compiled=True)
    ours = losses(module, device)
    theirs = losses(model(likelihood=likelihood()), torch.device("cpu"))
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=0.5)
    require_graph(module, device)


@pytest.mark.parametrize("networks", [Locatello(), Residual(8)], ids=["locatello", "residual"])
def test_other_networks_train_as_on_the_cpu(networks: Networks, device: torch.device) -> None:
    module = model(networks=networks, compiled=True)
    ours, theirs = losses(module, device), losses(model(networks=networks), torch.device("cpu"))
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=0.5)
    require_graph(module, device)


def test_a_graph_in_bf16_is_close_to_single_precision(device: torch.device) -> None:
    module = model(compiled=True)
    ours, theirs = losses(module, device, precision="bf16"), losses(model(), torch.device("cpu"))
    torch.testing.assert_close(ours, theirs, rtol=5e-3, atol=0.5)
    require_graph(module, device)


class Strict(pl.Callback):
    """From the fifth step on, waiting for the device is an error, from one step to the next but not between epochs.

    Keeps the kind of the step.
    """

    step = ""

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self.step = pl_module._step.__name__  # type: ignore[operator, union-attr]
        if pl_module.device.type == "cuda":
            apart = trainer.global_step < 4 or trainer.is_last_batch or trainer.global_step == trainer.max_steps
            torch.cuda.set_sync_debug_mode("default" if apart else "error")


@pytest.mark.parametrize("name", ["beta_vae", "factor_vae", "annealed_vae"])
@pytest.mark.parametrize("data", [TinySprites, Mapped], ids=["on the device", "on the host"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_step_of_the_trainer_waits_for_nothing(
    name: str, data: Any, precision: str, device: torch.device, tmp_path: Path
) -> None:
    watch, module = Strict(), model(MAKERS[name](), compiled=device.type == "cuda")
    dataset = data(3) if data is TinySprites else data()
    options: dict[str, Any] = {"accelerator": device.type, "devices": 1, "precision": precision, "max_steps": 14}
    try:
        trainer = plain_trainer(tmp_path, watch, max_epochs=-1, log_every_n_steps=100, **options)
        trainer.fit(module, FactorDataModule(dataset, batch_size=8))
    finally:
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")
    assert module.global_step == 14
    assert watch.step == ("graphed" if device.type == "cuda" else "step")


@pytest.mark.parametrize("variant", [{"inactive": "prior"}, {"gamma_on": "gradient"}, {"adam_at_switch": "reset"}])
def test_variants_change_stages_under_one_graph(variant: Any, device: torch.device, tmp_path: Path) -> None:
    """Two stages of 12 steps; the mask, the scaled gradients and Adam's new state are no part of the graph."""
    outcomes = []
    for where, compiled in ((device.type, device.type == "cuda"), (device.type, False)):
        module = model(compiled=compiled, groups=Groups([3, 2], **variant), seed=3)
        trainer = plain_trainer(tmp_path, accelerator=where, devices=1, max_steps=12, max_epochs=-1)
        trainer.fit(module, FactorDataModule(TinySprites(3), batch_size=16, seed=3))
        outcomes.append((module.last_loss.total.cpu(), module.encoder.groups[1].head.weight.detach().cpu()))
    torch.testing.assert_close(outcomes[0], outcomes[1], rtol=5e-3, atol=5e-3)

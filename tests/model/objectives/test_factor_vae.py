"""FactorVAE's discriminator: what it learns, what it does not change, and that it can be saved and resumed."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from deft_lightning.common.seeding import Stream, generator
from deft_lightning.model.objectives import FactorVAE
from tests.model.objectives.batches import make_batch

RHO = 0.8


def make_objective(seed: int = 0, latents: int = 2, **arguments: Any) -> FactorVAE:
    objective = FactorVAE(**{"hidden": 32, "layers": 2, "lr": 2e-3, **arguments})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        objective.build(latents)
    return objective


def correlated(step: int, count: int = 512, rho: float = RHO) -> Tensor:
    """Codes [count, 2] of unit variance and correlation `rho`."""
    first, second = torch.randn(2, count, generator=generator(1, Stream.POSTERIOR, step)).unbind()
    return torch.stack([first, rho * first + math.sqrt(1 - rho**2) * second], dim=1)


def train(objective: FactorVAE, steps: range, rho: float = RHO) -> list[dict[str, Tensor]]:
    return [objective.update(correlated(s, rho=rho), generator(0, Stream.OBJECTIVE, s)) for s in steps]


def density_ratio(objective: FactorVAE, sample: Tensor) -> float:
    return float(make_batch(sample, torch.full_like(sample, -80.0)).loss(objective).parts["tc"])


def weights(objective: FactorVAE) -> list[Tensor]:
    return [p.detach().clone() for p in objective.parameters()]


def test_density_ratio_is_the_total_correlation_of_a_gaussian() -> None:
    objective = make_objective()
    logged = train(objective, range(1000))
    total_correlation = -0.5 * math.log(1 - RHO**2)  # 0.51 nats
    assert density_ratio(objective, correlated(10**6, 20_000)) == pytest.approx(total_correlation, abs=0.06)
    last = torch.tensor([[float(x["discriminator_loss"]), float(x["discriminator_accuracy"])] for x in logged[-100:]])
    loss, accuracy = last.mean(dim=0).tolist()
    assert accuracy > 0.6  # chance is 0.5
    assert loss < math.log(2) - 0.05


def test_independent_latents_cannot_be_told_from_permuted_ones() -> None:
    objective = make_objective()
    logged = train(objective, range(300), rho=0.0)
    accuracy = sum(float(x["discriminator_accuracy"]) for x in logged[-100:]) / 100
    assert accuracy == pytest.approx(0.5, abs=0.03)
    assert density_ratio(objective, correlated(10**6, 20_000, rho=0.0)) == pytest.approx(0.0, abs=0.03)


def test_loss_has_gamma_and_the_pressure_where_they_belong() -> None:
    objective = make_objective(gamma=20.0)
    batch = make_batch(correlated(0, 8), torch.zeros(8, 2))
    first, second = objective.discriminator(batch.sample).unbind(dim=1)
    expected = 5.0 * batch.posterior.kl().sum(dim=1).mean() + 20.0 * (first - second).mean()
    torch.testing.assert_close(batch.regulariser(objective, pressure=5.0), expected)


def test_the_discriminator_of_the_paper_by_default() -> None:
    objective = FactorVAE()
    objective.build(10)
    shapes = [tuple(p.shape) for p in objective.parameters() if p.dim() == 2]
    assert shapes == [(1000, 10), *[(1000, 1000)] * 5, (2, 1000)]
    assert objective.optimizer.param_groups[0]["lr"] == 1e-4
    assert objective.optimizer.param_groups[0]["betas"] == (0.5, 0.9)


def test_the_first_step_is_adams_on_the_cross_entropy_of_whole_columns_permuted() -> None:
    objective = make_objective()
    before, sample = weights(objective), correlated(0, 64)
    seen: list[Tensor] = []
    hook = objective.discriminator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    logged = objective.update(sample, generator(0, Stream.OBJECTIVE, 0))
    hook.remove()
    joint, permuted = seen[0].chunk(2)
    assert torch.equal(joint, sample)
    assert torch.equal(permuted.sort(dim=0).values, sample.sort(dim=0).values)  # the marginals stay
    orders = [(permuted[:, d, None] == sample[:, d]).int().argmax(dim=1) for d in (0, 1)]
    assert not torch.equal(*orders)  # each latent has an order of its own

    reference = make_objective()
    reference.requires_grad_(True)
    log_probabilities = reference.discriminator(seen[0]).log_softmax(dim=1)
    loss = -(log_probabilities[:64, 0].sum() + log_probabilities[64:, 1].sum()) / 128
    torch.testing.assert_close(logged["discriminator_loss"], loss.detach())
    gradients = torch.autograd.grad(loss, list(reference.parameters()))
    for old, new, gradient in zip(before, weights(objective), gradients, strict=True):
        step = 2e-3 * gradient / (gradient.abs() + 1e-8)  # Adam's first step is the sign of the gradient
        torch.testing.assert_close(new, old - step, rtol=0, atol=1e-5)


def test_the_loss_reaches_the_codes_and_neither_reads_nor_changes_the_discriminator() -> None:
    objective = make_objective()
    before = weights(objective)
    mean = correlated(0, 16).requires_grad_()
    make_batch(mean, torch.zeros(16, 2)).loss(objective, pressure=0.0).total.backward()
    assert mean.grad is not None
    assert mean.grad.abs().sum() > 0
    train(objective, range(1))
    assert all(p.grad is None and not p.requires_grad for p in objective.parameters())
    assert not any(torch.equal(a, b) for a, b in zip(before, weights(objective), strict=True))


@pytest.mark.parametrize("used", [False, True])
def test_saved_and_resumed_equals_uninterrupted(used: bool) -> None:
    whole, first = make_objective(), make_objective()
    train(whole, range(20))
    train(first, range(12))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = make_objective(seed=7)
    if used:  # loading replaces what it has learned
        train(second, range(3))
    second.load_state_dict(torch.load(file, weights_only=True))
    train(second, range(12, 20))
    for ours, theirs in zip(second.parameters(), whole.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_state_before_the_first_step_can_be_loaded() -> None:
    fresh, other = make_objective(), make_objective(seed=7)
    train(other, range(3))
    other.load_state_dict(fresh.state_dict())
    train(other, range(3))
    train(fresh, range(3))
    assert all(torch.equal(a, b) for a, b in zip(weights(other), weights(fresh), strict=True))


def test_objectives_that_share_a_state_learn_apart() -> None:
    first, second = make_objective(), make_objective(seed=7)
    train(first, range(5))
    second.load_state_dict(first.state_dict())
    expected = weights(second)
    train(first, range(5, 10))
    assert all(torch.equal(a, b) for a, b in zip(expected, weights(second), strict=True))
    train(second, range(5, 10))
    assert all(torch.equal(a, b) for a, b in zip(weights(first), weights(second), strict=True))


def test_the_optimiser_follows_the_module() -> None:
    """Moved to another precision, as to another device: the moments move too, and the step count stays."""
    moved, stayed = make_objective(), make_objective()
    for objective in (moved, stayed):
        train(objective, range(5))
    outer = torch.nn.ModuleList([moved])
    outer.to(torch.float64)
    moments = [s["exp_avg"] for s in moved.optimizer.state_dict()["state"].values()]
    assert {m.dtype for m in moments} == {torch.float64}
    assert moved.optimizer.param_groups[0]["params"] == list(moved.parameters())
    outer.to(torch.float32)
    for objective in (moved, stayed):
        train(objective, range(5, 10))
    assert all(torch.equal(a, b) for a, b in zip(weights(moved), weights(stayed), strict=True))

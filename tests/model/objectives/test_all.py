"""Facts that hold for every objective."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import distributed
from torch._dynamo.testing import CompileCounterWithBackend

from deft_lightning.common.conf import config_folder
from deft_lightning.common.errors import DeftError
from deft_lightning.common.seeding import Stream, generator
from deft_lightning.model.compiling import can_compile
from deft_lightning.model.likelihoods import Bernoulli, ContinuousBernoulli, Gaussian, LearntGaussian
from deft_lightning.model.objectives import (
    DEFTTC,
    DIPVAE1,
    DIPVAE2,
    AnnealedVAE,
    BetaTCVAE,
    FactorVAE,
    Objective,
    loss_function,
)
from tests.model.objectives.batches import make_batch
from tests.model.objectives.makers import MAKERS, averaged_step, make, one_process

every_objective = pytest.mark.parametrize("name", MAKERS)


LIKELIHOODS = {
    "bernoulli": Bernoulli,
    "gaussian": lambda: Gaussian(0.3),
    "gaussian_learnt": LearntGaussian,
    "continuous_bernoulli": ContinuousBernoulli,
}


@every_objective
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_logs_the_loss_and_the_parts_of_the_elbo(name: str, likelihood: str) -> None:
    mean, log_variance = torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(0)).unbind()
    batch = make_batch(mean, log_variance)
    term = LIKELIHOODS[likelihood]()
    total, parts = batch.loss(make(name), 3.0, term)
    kl = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, (0.5 * log_variance).exp()), torch.distributions.Normal(0.0, 1.0)
    )
    assert parts["loss"] is total
    torch.testing.assert_close(parts["reconstruction"], batch.reconstruction(term))
    apart = batch.reconstruction(term) - batch.reconstruction()
    torch.testing.assert_close(total - batch.loss(make(name), 3.0).total, apart, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(parts["kl"], kl.sum(dim=1).mean())
    torch.testing.assert_close(parts["kl/latent"], kl.mean(dim=0))
    assert all(value.dim() == 0 for part, value in parts.items() if part != "kl/latent")


@every_objective
def test_under_mixed_precision_the_loss_is_in_single_precision(name: str) -> None:
    """The weight of a penalty may be large, and bf16 has less than three digits."""
    batch, objective = (
        make_batch(*torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(0)).unbind()),
        make(name),
    )
    with torch.autocast("cpu", torch.bfloat16):
        total, parts = batch.loss(objective, 3.0)
    assert {value.dtype for value in (total, *parts.values())} == {torch.float32}
    if name != "factor_vae":  # whose discriminator computes in half precision, as networks do
        torch.testing.assert_close(parts, batch.loss(objective, 3.0).parts)


@every_objective
@pytest.mark.parametrize("extreme", ["low", "high", "mixed", "one low", "one high"])
def test_gradients_are_finite_at_extreme_log_variances(name: str, extreme: str) -> None:
    values = torch.zeros(8, 4)
    values += {"low": -80.0, "high": 80.0}.get(extreme, 0.0)
    if extreme == "mixed":
        values = torch.tensor([-80.0, 80.0])[torch.arange(32).view(8, 4) * 7 % 11 % 2]
    if extreme.startswith("one"):
        values[3, 1] = 80.0 if extreme == "one high" else -80.0
    mean = torch.randn(8, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    log_variance = values.requires_grad_()
    batch, objective = make_batch(mean, log_variance), make(name)
    total = batch.loss(objective, 4.0).total
    total.backward()
    assert torch.isfinite(total)
    assert torch.isfinite(mean.grad).all()  # type: ignore[arg-type]
    assert torch.isfinite(log_variance.grad).all()  # type: ignore[arg-type]
    objective.update(batch.sample.detach(), generator(0, Stream.OBJECTIVE, 0))
    assert all(torch.isfinite(p).all() for p in objective.parameters())


LABELS = {
    "beta_vae": "beta-VAE",
    "annealed_vae": "AnnealedVAE",
    "factor_vae": "FactorVAE",
    "dip_vae_i": "DIP-VAE-I",
    "dip_vae_ii": "DIP-VAE-II",
    "beta_tcvae": "beta-TCVAE",
    "deft_tc": "DEFT (TC)",
}


@pytest.mark.parametrize(("file", "label"), LABELS.items())
def test_its_file_in_conf_has_the_defaults_of_the_class(file: str, label: str) -> None:
    made = instantiate(OmegaConf.load(config_folder() / "objective" / f"{file}.yaml"))
    assert made.label == label
    assert vars(made).keys() == vars(type(made)()).keys()
    plain = {k: v for k, v in vars(made).items() if isinstance(v, int | float | str)}
    assert plain == {k: getattr(type(made)(), k) for k in plain}


@pytest.mark.parametrize(
    ("kind", "arguments", "sentence"),
    [
        (AnnealedVAE, {"gamma": -1}, "objective.gamma is -1: give a number from 0 up."),
        (FactorVAE, {"gamma": True}, "objective.gamma is True: give a number from 0 up."),
        (FactorVAE, {"hidden": 0}, "objective.hidden is 0: give a whole number from 1 up."),
        (FactorVAE, {"layers": 2.5}, "objective.layers is 2.5: give a whole number from 1 up."),
        (FactorVAE, {"lr": 0}, "objective.lr is 0: give a number above 0."),
        (DIPVAE1, {"lambda_od": "ten"}, "objective.lambda_od is 'ten': give a number from 0 up."),
        (DIPVAE1, {"lambda_od": None}, "objective.lambda_od is None: give a number from 0 up."),
        (DIPVAE2, {"lambda_d": float("nan")}, "objective.lambda_d is nan: give a number from 0 up."),
        (BetaTCVAE, {"beta": float("inf")}, "objective.beta is inf: give a number from 0 up."),
        (DEFTTC, {"estimator": "exact"}, "objective.estimator is 'exact': use one of weighted, stratified."),
    ],
)
def test_bad_arguments_are_one_sentence(kind: Callable[..., Objective], arguments: dict[str, Any], sentence: str):
    with pytest.raises(DeftError) as caught:
        kind(**arguments)
    assert str(caught.value) == sentence


@pytest.mark.slow  # compiles
@every_objective
def test_is_traced_as_one_graph_once(name: str) -> None:
    compare_compiled(name, "aot_eager")


@pytest.mark.slow  # code for a loss takes more than 10 s to make
@pytest.mark.skipif(not can_compile("cpu"), reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize(
    ("name", "likelihood"),
    [
        ("factor_vae", "bernoulli"),
        ("dip_vae_ii", "gaussian"),
        ("beta_tcvae", "gaussian_learnt"),
        ("beta_vae", "continuous_bernoulli"),
    ],
)
def test_compiled_and_eager_losses_and_gradients_are_equal(name: str, likelihood: str) -> None:
    compare_compiled(name, "inductor", likelihood)


def compare_compiled(name: str, backend: str, likelihood: str = "bernoulli") -> None:
    torch.compiler.reset()
    objective, counter = make(name), CompileCounterWithBackend(backend)
    loss = loss_function(LIKELIHOODS[likelihood](), objective)
    compiled = torch.compile(loss, dynamic=False, fullgraph=True, backend=counter)
    for step in range(2):
        leaves = [x.requires_grad_() for x in torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(step))]
        batch, pressure = make_batch(*leaves), torch.tensor(3.0 - step)
        batch.parameters.requires_grad_()
        leaves.append(batch.parameters)
        eager, ours = loss(*batch, pressure), compiled(*batch, pressure)
        torch.testing.assert_close(ours.parts, eager.parts)
        gradients = [torch.autograd.grad(loss.total, leaves, retain_graph=True) for loss in (ours, eager)]
        torch.testing.assert_close(*gradients)
        objective.update(batch.sample.detach(), generator(0, Stream.OBJECTIVE, step))
    assert counter.frame_count == 1  # neither a new pressure nor an update of the discriminator compiles again


@pytest.mark.slow  # processes that import torch
@pytest.mark.skipif(not distributed.is_available(), reason="needs torch.distributed")
def test_two_processes_learn_what_one_learns_from_the_whole_batch(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(one_process, (2, tmp_path), nprocs=2)
    first, second = (torch.load(tmp_path / f"rank_{rank}.pt") for rank in (0, 1))
    for name in MAKERS:
        gradients, weights = averaged_step(name, 0, 1)
        averages = [(a + b) / 2 for a, b in zip(first[name][0], second[name][0], strict=True)]
        torch.testing.assert_close(averages, gradients, msg=lambda text, name=name: f"{name}: {text}")
        torch.testing.assert_close(first[name][1], second[name][1], rtol=0, atol=0)
        torch.testing.assert_close(first[name][1], weights)

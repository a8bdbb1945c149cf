"""Likelihoods against torch.distributions in double precision, their gradients, and the sigma that is learnt."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, distributed
from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import ContinuousBernoulli as TorchContinuousBernoulli
from torch.distributions import Normal

from deft_lightning import Bernoulli, ContinuousBernoulli, DeftError, Gaussian, LearntGaussian
from deft_lightning.common.conf import config_folder
from deft_lightning.model.likelihoods import Likelihood
from tests.model import learnt_sigma

SHAPE = (6, 3, 8, 8)


def batch(scale: float = 3.0) -> tuple[Tensor, Tensor]:
    """Parameters and images, float64 `SHAPE`."""
    random = torch.Generator().manual_seed(0)
    parameters = scale * torch.randn(SHAPE, generator=random, dtype=torch.float64)
    return parameters, torch.rand(SHAPE, generator=random, dtype=torch.float64)


def learnt(squared_error: float = 0.04) -> LearntGaussian:
    """One that evaluates with a running mean of `squared_error`."""
    likelihood = LearntGaussian().double().eval()
    likelihood.squared_error.fill_(squared_error)
    return likelihood


EACH: dict[str, tuple[Likelihood, object]] = {
    "bernoulli": (Bernoulli(), lambda p: TorchBernoulli(logits=p, validate_args=False)),
    "gaussian": (Gaussian(0.3), lambda p: Normal(torch.sigmoid(p), 0.3)),
    "learnt": (learnt(), lambda p: Normal(torch.sigmoid(p), 0.2)),
    "continuous_bernoulli": (ContinuousBernoulli(), lambda p: TorchContinuousBernoulli(logits=p, lims=(0.5, 0.5))),
}
each = pytest.mark.parametrize("name", EACH)


@each
def test_density_and_mean_are_those_of_torch(name: str) -> None:
    likelihood, distribution = EACH[name]
    parameters, images = batch()
    torch.testing.assert_close(
        likelihood.pixel_nll(parameters, images), -distribution(parameters).log_prob(images), rtol=1e-9, atol=1e-9
    )
    torch.testing.assert_close(likelihood.mean(parameters), distribution(parameters).mean, rtol=1e-9, atol=1e-9)
    expected = -distribution(parameters).log_prob(images).flatten(1).sum(dim=1).mean()
    torch.testing.assert_close(likelihood.nll(parameters, images), expected)


@each
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    likelihood, _ = EACH[name]
    parameters, images = batch()
    parameters[0, 0, 0] = torch.tensor([0.0, 1e-3, -1e-3, 0.19, -0.19, 0.21, -0.21, 1e-8])
    assert torch.autograd.gradcheck(lambda p: likelihood.nll(p, images), (parameters.requires_grad_(),))


def test_the_term_of_the_paper_has_the_same_bits_as_the_cross_entropy_of_torch() -> None:
    parameters, images = (values.float().requires_grad_() for values in batch())
    ours = Bernoulli().nll(parameters, images)
    theirs = torch.nn.functional.binary_cross_entropy_with_logits(parameters, images, reduction="sum") / len(images)
    assert torch.equal(ours, theirs)
    assert torch.equal(*(torch.autograd.grad(value, parameters)[0] for value in (ours, theirs)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@each
def test_saturated_parameters_have_finite_terms_and_gradients_and_means_in_0_to_1(name: str, dtype) -> None:
    likelihood = EACH[name][0]
    values = [0.0, 1e-30, 1e-6, 0.2, 30.0, 100.0, 1e4, 1e30]
    parameters = torch.tensor([*values, *(-value for value in values)], dtype=dtype).view(1, 1, 4, 4).requires_grad_()
    for images in (torch.zeros(1, 1, 4, 4, dtype=dtype), torch.ones(1, 1, 4, 4, dtype=dtype)):
        terms = likelihood.pixel_nll(parameters, images)
        (gradient,) = torch.autograd.grad(terms.sum(), parameters)
        assert torch.isfinite(terms).all()
        assert torch.isfinite(gradient).all()
    mean = likelihood.mean(parameters).detach()
    assert 0 <= float(mean.min()) <= float(mean.max()) <= 1


def test_the_continuous_bernoulli_is_a_density_and_its_mean_the_mean_of_it() -> None:
    """Integrals over [0, 1] by the midpoint rule, for parameters on both sides of where the formulas change."""
    images = ((torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000).view(1, 1, 1, -1)
    likelihood = ContinuousBernoulli()
    for value in (0.0, 1e-9, 1e-4, 0.1999, 0.2001, 3.0, 40.0):
        for sign in (1, -1):
            parameters = torch.full_like(images, sign * value)
            density = (-likelihood.pixel_nll(parameters, images)).exp()
            assert float(density.mean()) == pytest.approx(1.0, abs=1e-6)
            assert float((density * images).mean()) == pytest.approx(
                float(likelihood.mean(parameters)[..., 0]), abs=1e-6
            )


def test_single_precision_of_the_continuous_bernoulli_is_close_to_double() -> None:
    parameters = torch.linspace(-2, 2, 4001, dtype=torch.float64).view(1, 1, 1, -1)
    likelihood = ContinuousBernoulli()
    torch.testing.assert_close(
        likelihood.mean(parameters.float()).double(), likelihood.mean(parameters), rtol=0, atol=3e-6
    )
    images = torch.full_like(parameters, 0.3)
    ours, exact = likelihood.pixel_nll(parameters.float(), images.float()), likelihood.pixel_nll(parameters, images)
    torch.testing.assert_close(ours.double(), exact, rtol=0, atol=3e-6)


# --- The sigma that is learnt ---


def test_in_training_sigma_is_at_its_optimum() -> None:
    """No other sigma gives the batch a lower term, and the term is that of the closed form n / 2 (log 2 pi mse + 1)."""
    parameters, images = batch()
    term = float(LearntGaussian().nll(parameters, images))
    mse = float((images - torch.sigmoid(parameters)).square().mean())
    assert term == pytest.approx(0.5 * 3 * 64 * (math.log(2 * math.pi * mse) + 1))
    others = [float(Gaussian(math.sqrt(mse) * factor).nll(parameters, images)) for factor in (0.98, 1.0, 1.02)]
    assert others[1] == pytest.approx(term)
    assert min(others[0], others[2]) > term


def test_its_gradient_is_that_of_the_optimum() -> None:
    parameters, images = batch()
    likelihood = LearntGaussian()
    assert torch.autograd.gradcheck(lambda p: likelihood.nll(p, images), (parameters.requires_grad_(),))


def test_a_perfect_reconstruction_keeps_sigma_at_its_floor() -> None:
    parameters = batch()[0].float().requires_grad_()
    images = torch.sigmoid(parameters).detach()
    likelihood = LearntGaussian()
    term = likelihood.nll(parameters, images)
    term.backward()
    assert float(term.detach()) == pytest.approx(3 * 64 * (-6 + 0.5 * math.log(2 * math.pi)), rel=1e-5)
    assert torch.equal(parameters.grad, torch.zeros_like(parameters))


def test_evaluation_takes_the_running_mean() -> None:
    """Over all steps at first, then over about the last hundred; `nll` itself changes nothing."""
    likelihood = LearntGaussian().double()
    errors = [0.01 * (step + 1) for step in range(150)]
    mean = 1.0
    for step, error in enumerate(errors):
        images = torch.full(SHAPE, 0.5 + error, dtype=torch.float64)
        logged = likelihood.update(torch.zeros(SHAPE, dtype=torch.float64), images)
        likelihood.nll(torch.zeros(SHAPE, dtype=torch.float64), images)
        assert float(logged["sigma"]) == pytest.approx(error)
        mean += (error**2 - mean) / min(step + 1, 100)
    assert float(likelihood.squared_error) == pytest.approx(mean, rel=1e-5)
    likelihood.eval()
    parameters, images = batch()
    torch.testing.assert_close(
        likelihood.nll(parameters, images), Gaussian(math.sqrt(mean)).nll(parameters, images), rtol=1e-5, atol=0
    )
    again = LearntGaussian()
    again.load_state_dict(likelihood.state_dict())
    assert float(again.eval().squared_error) == pytest.approx(mean, rel=1e-5)


@pytest.mark.slow  # processes that import torch
@pytest.mark.skipif(not distributed.is_available(), reason="needs torch.distributed")
def test_two_processes_have_the_sigma_of_the_global_batch(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(learnt_sigma.one_process, (2, tmp_path), nprocs=2)
    first, second = (torch.load(tmp_path / f"rank_{rank}.pt") for rank in (0, 1))
    whole = learnt_sigma.step(0, 1)
    for name in ("sigma", "running"):
        torch.testing.assert_close(first[name], whole[name])
        assert torch.equal(first[name], second[name])
    for name in ("term", "gradient"):  # what DDP averages
        torch.testing.assert_close((first[name] + second[name]) / 2, whole[name])


# --- Configuration ---

FILES = {
    "bernoulli": "Bernoulli",
    "gaussian": "Gaussian sigma 0.1",
    "gaussian_learnt": "Gaussian learnt sigma",
    "continuous_bernoulli": "continuous Bernoulli",
}


@pytest.mark.parametrize("file", sorted(path.stem for path in (config_folder() / "likelihood").glob("*.yaml")))
def test_every_file_in_conf_makes_the_likelihood_of_its_label(file: str) -> None:
    made = instantiate(OmegaConf.load(config_folder() / "likelihood" / f"{file}.yaml"))
    assert isinstance(made, Likelihood)
    assert made.label == FILES[file]


@pytest.mark.parametrize("sigma", [0, -1, float("nan"), "wide", None])
def test_a_sigma_that_is_none_is_one_sentence(sigma: object) -> None:
    with pytest.raises(DeftError, match=r"likelihood\.sigma is .*: give a number above 0\."):
        Gaussian(sigma)  # type: ignore[arg-type]

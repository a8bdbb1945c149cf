"""MI, TC and DWKL against integrals, Gaussian closed forms and each other."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from deft_lightning.common.errors import DeftError
from deft_lightning.model.networks import Posterior
from deft_lightning.model.objectives import Decomposition, kl_decomposition, minibatch_decomposition
from tests.model.objectives.batches import codes_with_covariance

COVARIANCE = torch.tensor([[1.5, 0.7, 0.0], [0.7, 1.2, -0.2], [0.0, -0.2, 0.8]], dtype=torch.float64)
SIGMA = 0.6


def gaussian_aggregate(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Posteriors N(mu_n, SIGMA^2) whose aggregate is N(0, COVARIANCE) up to the finite count; float32 [count, 3]."""
    mean = codes_with_covariance(COVARIANCE - SIGMA**2 * torch.eye(3), count).float()
    sample = codes_with_covariance(torch.eye(3), count, seed=1).float() * SIGMA + mean
    return mean, torch.full_like(mean, 2 * math.log(SIGMA)), sample


def gaussian_terms() -> tuple[float, float, float]:
    """MI, TC and DWKL of N(mu_n, SIGMA^2) under N(0, COVARIANCE), in closed form."""
    log_determinant, variances = COVARIANCE.logdet(), COVARIANCE.diagonal()
    mi = 0.5 * log_determinant - 3 * math.log(SIGMA)
    tc = 0.5 * (variances.log().sum() - log_determinant)
    dwkl = 0.5 * (variances - 1 - variances.log()).sum()
    return float(mi), float(tc), float(dwkl)


def four_posteriors(per_axis: int = 50) -> tuple[Tensor, Tensor, Tensor]:
    """Four different posteriors in two latents, each [per_axis^2] times, with its Gaussian quantiles as the sample."""
    centres = torch.tensor([[0.0, 0.0], [1.5, 1.0], [-1.0, -2.0], [2.0, 2.5]])
    log_variances = torch.tensor([[-1.0, 0.0], [-3.0, -2.0], [0.3, -1.5], [-2.0, -4.0]])
    quantiles = Normal(0.0, 1.0).icdf((torch.arange(per_axis) + 0.5) / per_axis)
    noise = torch.cartesian_prod(quantiles, quantiles)
    mean, log_variance = (x.repeat_interleave(len(noise), dim=0) for x in (centres, log_variances))
    return mean, log_variance, mean + (0.5 * log_variance).exp() * noise.repeat(4, 1)


def integrated_terms(mean: Tensor, log_variance: Tensor) -> tuple[float, float, float]:
    """MI, TC and DWKL of a mixture of two-latent posteriors by sums over a grid; arguments [K, 2], distinct."""
    axis = torch.linspace(-9, 9, 3001, dtype=torch.float64)
    cell = float(axis[1] - axis[0])
    densities = Normal(mean.double(), (0.5 * log_variance).exp().double()).log_prob(axis[:, None, None]).exp()  # G K 2
    joint = torch.einsum("gk,hk->gh", densities[..., 0], densities[..., 1]) / len(mean)
    marginals = densities.mean(dim=1)  # [G, 2]

    def entropy(density: Tensor, volume: float) -> Tensor:
        return -torch.special.xlogy(density, density).sum() * volume

    joint_entropy = entropy(joint, cell**2)
    marginal_entropy = entropy(marginals, cell)
    conditional_entropy = 0.5 * (log_variance.double() + math.log(2 * math.pi * math.e)).sum(dim=1).mean()
    cross_entropy = -(marginals * Normal(0.0, 1.0).log_prob(axis)[:, None]).sum() * cell
    return (
        float(joint_entropy - conditional_entropy),
        float(marginal_entropy - joint_entropy),
        float(cross_entropy - marginal_entropy),
    )


def monte_carlo_kl(mean: Tensor, log_variance: Tensor, sample: Tensor) -> Tensor:
    """E[log q(z|n) - log p(z)] over `sample`, by torch.distributions."""
    posterior = Normal(mean.double(), (0.5 * log_variance.double()).exp())
    return (posterior.log_prob(sample.double()) - Normal(0.0, 1.0).log_prob(sample.double())).sum(dim=1).mean()


def values(terms: Decomposition) -> tuple[float, ...]:
    return tuple(float(term) for term in terms)


def test_terms_of_a_mixture_equal_their_integrals() -> None:
    mean, log_variance, sample = four_posteriors()
    expected = integrated_terms(mean[::2500], log_variance[::2500])
    assert values(kl_decomposition(mean, log_variance, sample)) == pytest.approx(expected, abs=0.01)
    assert expected[0] < math.log(4)


def test_terms_of_a_gaussian_aggregate_equal_their_closed_forms() -> None:
    assert values(kl_decomposition(*gaussian_aggregate(6000))) == pytest.approx(gaussian_terms(), abs=0.015)


def test_terms_sum_to_the_monte_carlo_kl() -> None:
    posteriors = gaussian_aggregate(500)
    expected = float(monte_carlo_kl(*posteriors))
    assert sum(values(kl_decomposition(*posteriors))) == pytest.approx(expected, rel=1e-9)
    mean, log_variance, sample = posteriors
    for estimator in ("weighted", "stratified"):
        terms = minibatch_decomposition(Posterior(mean, log_variance), sample, 60_000, estimator)
        assert sum(values(terms)) == pytest.approx(expected, abs=1e-4)


def test_narrow_posteriors_keep_their_digits_in_float32() -> None:
    random = torch.Generator().manual_seed(0)
    mean = torch.randn(300, 4, generator=random)
    log_variance = -20.0 * torch.rand(300, 4, generator=random)  # sigma down to 5e-5
    sample = Posterior(mean, log_variance).sample(torch.randn(300, 4, generator=random))
    mean, log_variance, sample = (x.double() for x in (mean, log_variance, sample))
    aggregate = Normal(mean, (0.5 * log_variance).exp()).log_prob(sample[:, None])  # [N, N, D]
    joint = torch.logsumexp(aggregate.sum(dim=2), dim=1) - math.log(300)
    marginals = (torch.logsumexp(aggregate, dim=1) - math.log(300)).sum(dim=1)
    ours = kl_decomposition(mean.float(), log_variance.float(), sample.float())
    assert float(ours.tc) == pytest.approx(float((joint - marginals).mean()), abs=1e-3)


def test_neither_the_order_of_latents_or_points_nor_the_chunk_matters() -> None:
    posteriors = gaussian_aggregate(200)
    expected = values(kl_decomposition(*posteriors))
    latents, points = torch.tensor([2, 0, 1]), torch.randperm(200, generator=torch.Generator().manual_seed(0))
    permuted = [x[points][:, latents] for x in posteriors]
    assert values(kl_decomposition(*permuted, chunk=7)) == pytest.approx(expected, abs=1e-5)
    for estimator in ("weighted", "stratified"):
        plain, changed = (
            minibatch_decomposition(Posterior(m, v), z, 1000, estimator) for m, v, z in (posteriors, permuted)
        )
        assert values(changed) == pytest.approx(values(plain), abs=1e-4)


def test_independent_latents_have_no_total_correlation() -> None:
    mean, log_variance, sample = gaussian_aggregate(50)
    # All pairs of two latents: the aggregate is exactly the product of its marginals.
    first, second = torch.cartesian_prod(torch.arange(50), torch.arange(50)).unbind(dim=1)
    pairs = [torch.stack([x[first, 0], x[second, 1]], dim=1) for x in (mean, log_variance, sample)]
    assert float(kl_decomposition(*pairs).tc) == pytest.approx(0.0, abs=1e-5)


def test_mutual_information_of_separate_posteriors_is_log_n_and_of_one_posterior_nothing() -> None:
    mean = 100.0 * torch.arange(64.0)[:, None].expand(64, 2)
    sample = mean + torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    assert float(kl_decomposition(mean, torch.zeros(64, 2), sample).mi) == pytest.approx(math.log(64), abs=1e-6)
    alike = kl_decomposition(torch.zeros(64, 2), torch.zeros(64, 2), sample - mean)
    assert values(alike) == pytest.approx((0.0, 0.0, 0.0), abs=1e-6)


def test_estimates_over_the_whole_data_set_are_exact() -> None:
    mean, log_variance, sample = gaussian_aggregate(400)
    mi, tc, dwkl = values(kl_decomposition(mean, log_variance, sample))
    stratified = minibatch_decomposition(Posterior(mean, log_variance), sample, 400, "stratified")
    assert values(stratified) == pytest.approx((mi, tc, dwkl), abs=1e-4)
    weighted = minibatch_decomposition(Posterior(mean, log_variance), sample, 400, "weighted")
    bias = math.log(400)  # q(z) and each of its three marginals are too low by a factor of N
    assert values(weighted) == pytest.approx((mi + bias, tc + 2 * bias, dwkl - 3 * bias), abs=1e-4)


@pytest.mark.parametrize("estimator", ["weighted", "stratified"])
def test_estimates_over_minibatches_after_subtracting_their_bias(estimator: str) -> None:
    # Batches of 500 out of 10,000: a batch covers this aggregate, so that little is left of the bias of the logarithm.
    posteriors = [x.split(500) for x in gaussian_aggregate(10_000)]
    rows = [
        values(minibatch_decomposition(Posterior(mean, log_variance), sample, 10_000, estimator))
        for mean, log_variance, sample in zip(*posteriors, strict=True)
    ]
    terms = torch.tensor(rows).mean(dim=0)
    bias = math.log(10_000) if estimator == "weighted" else 0.0
    corrected = (terms - bias * torch.tensor([1.0, 2.0, -3.0])).tolist()
    assert corrected == pytest.approx(gaussian_terms(), abs=0.03)


def test_gradients_of_both_estimators_agree_where_the_batch_is_the_data_set() -> None:
    gradients = []
    for estimator in ("weighted", "stratified"):
        mean, log_variance, sample = (x.double().requires_grad_() for x in gaussian_aggregate(100))
        terms = minibatch_decomposition(Posterior(mean, log_variance), sample, 100, estimator)
        gradients.append(torch.autograd.grad(2 * terms.mi + 3 * terms.tc + terms.dwkl, (mean, log_variance, sample)))
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("estimator", ["weighted", "stratified"])
def test_a_batch_of_one_image(estimator: str) -> None:
    one = torch.tensor([[0.3, -0.2]])
    terms = minibatch_decomposition(Posterior(one, one), one, 50, estimator)
    # The estimate of q(z) is q(z|n) / N.
    assert values(terms)[:2] == pytest.approx((math.log(50), math.log(50)), abs=1e-5)


def test_bad_arguments_are_one_sentence() -> None:
    good = torch.zeros(5, 2)
    with pytest.raises(DeftError, match=r"shapes \[5, 2\], \[5, 2\], \[4, 2\]: give three matrices"):
        kl_decomposition(good, good, good[:4])
    with pytest.raises(DeftError, match="NaN or infinite"):
        kl_decomposition(good, good, good + math.inf)
    with pytest.raises(DeftError, match="the data set has 0 images"):
        minibatch_decomposition(Posterior(good, good), good, 0)

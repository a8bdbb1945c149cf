"""beta-TCVAE and DEFT (TC): the weight of every term, and their gradients."""

from __future__ import annotations

import pytest
import torch

from deft_lightning.model.objectives import DEFTTC, BetaTCVAE, BetaVAE, minibatch_decomposition
from tests.model.objectives.batches import Batch, make_batch


@pytest.fixture
def batch() -> Batch:
    random = torch.Generator().manual_seed(1)
    mean, log_variance = torch.randn(2, 16, 5, generator=random, dtype=torch.float64)
    return make_batch(mean.requires_grad_(), (log_variance - 1).requires_grad_())


def prepared(kind: type[BetaTCVAE | DEFTTC], **arguments: object) -> BetaTCVAE | DEFTTC:
    objective = kind(**arguments)  # type: ignore[arg-type]
    objective.dataset_size = 1000
    return objective


@pytest.mark.parametrize("estimator", ["weighted", "stratified"])
def test_every_term_has_the_weight_of_its_equation(batch: Batch, estimator: str) -> None:
    mi, tc, dwkl = minibatch_decomposition(batch.posterior, batch.sample, 1000, estimator)
    kl = batch.posterior.kl().sum(dim=1).mean()
    ours = batch.regulariser(prepared(BetaTCVAE, beta=6.0, estimator=estimator), pressure=3.0)
    torch.testing.assert_close(ours, 3.0 * kl + 5.0 * tc)
    ours = batch.regulariser(prepared(DEFTTC, beta=8.0, estimator=estimator), pressure=70.0)
    torch.testing.assert_close(ours, 70.0 * mi + 8.0 * tc + dwkl)  # Eq. 7


def test_beta_tcvae_at_beta_1_is_beta_vae(batch: Batch) -> None:
    tcvae, vae = batch.loss(prepared(BetaTCVAE, beta=1.0), 4.0), batch.loss(BetaVAE(), 4.0)
    torch.testing.assert_close(tcvae.total, vae.total)


def test_deft_tc_with_equal_weights_has_the_gradient_of_the_sampled_kl(batch: Batch) -> None:
    """d/d mu of log q(z|x) - log p(z) is z, since z moves with mu; d/d log variance is (z sigma noise - 1) / 2."""
    batch.regulariser(prepared(DEFTTC, beta=1.0), pressure=1.0).backward()
    mean, log_variance = batch.posterior
    sample = batch.sample.detach()
    torch.testing.assert_close(mean.grad, sample / 16)
    torch.testing.assert_close(log_variance.grad, (sample * (sample - mean.detach()) - 1) / 2 / 16)


def test_a_step_down_its_gradient_makes_the_total_correlation_smaller() -> None:
    random = torch.Generator().manual_seed(2)
    common = torch.randn(200, 1, generator=random)
    mean = (common + 0.3 * torch.randn(200, 2, generator=random)).requires_grad_()

    def estimate() -> torch.Tensor:
        batch = make_batch(mean, torch.full((200, 2), -2.0))
        return minibatch_decomposition(batch.posterior, batch.sample, 200, "stratified").tc

    before = estimate()
    (gradient,) = torch.autograd.grad(before, mean)
    with torch.no_grad():
        mean -= 10.0 * gradient
    assert float(estimate().detach()) < float(before.detach()) - 0.1

from __future__ import annotations

import pytest
import torch

from deft_lightning.model.objectives import DIPVAE1, DIPVAE2
from tests.model.objectives.batches import codes_with_covariance, make_batch

COVARIANCE = torch.tensor([[2.0, 0.5, -0.3], [0.5, 1.5, 0.2], [-0.3, 0.2, 0.8]])
OFF_DIAGONAL = 2 * (0.5**2 + 0.3**2 + 0.2**2)


@pytest.mark.parametrize(
    ("objective", "variances"),
    [
        (DIPVAE1(2.0, 3.0), (2.0, 1.5, 0.8)),
        (DIPVAE2(2.0, 3.0), (2.25, 1.75, 1.05)),  # a quarter more from the posteriors
    ],
)
def test_penalty_on_codes_with_a_chosen_covariance(objective: DIPVAE1 | DIPVAE2, variances: tuple[float, ...]) -> None:
    mean = codes_with_covariance(COVARIANCE, 40).float() + 5.0  # where the codes lie does not matter
    batch = make_batch(mean, torch.full((40, 3), 0.25).log())
    parts = batch.loss(objective).parts
    diagonal = sum((v - 1) ** 2 for v in variances)
    torch.testing.assert_close(parts["dip_off_diagonal"], torch.tensor(OFF_DIAGONAL), rtol=1e-4, atol=0)
    torch.testing.assert_close(parts["dip_diagonal"], torch.tensor(diagonal), rtol=1e-4, atol=0)
    expected = 7.0 * parts["kl"] + 2.0 * OFF_DIAGONAL + 3.0 * diagonal
    torch.testing.assert_close(batch.regulariser(objective, pressure=7.0), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("kind", [DIPVAE1, DIPVAE2])
def test_no_penalty_where_the_covariance_is_the_identity(kind: type[DIPVAE1 | DIPVAE2]) -> None:
    mean_variance, variance = (1.0, 0.3) if kind is DIPVAE1 else (0.7, 0.3)
    mean = codes_with_covariance(mean_variance * torch.eye(3), 40).float()
    batch = make_batch(mean, torch.full((40, 3), variance).log())
    torch.testing.assert_close(batch.regulariser(kind(50.0)), batch.posterior.kl().sum(1).mean(), rtol=1e-4, atol=0)


def test_gradient_of_dip_vae_i_with_respect_to_the_means() -> None:
    mean = codes_with_covariance(COVARIANCE, 40).requires_grad_()
    batch = make_batch(mean, torch.zeros(40, 3, dtype=torch.float64))
    batch.regulariser(DIPVAE1(2.0, 3.0), pressure=0.0).backward()
    # d/d mu_n of sum W_ij (C_ij - I_ij)^2 is 4/B (W * (C - I)) mu_n for centred means and symmetric W.
    weights = 2.0 + (3.0 - 2.0) * torch.eye(3)
    expected = 4.0 / 40 * mean.detach() @ (weights * (COVARIANCE - torch.eye(3))).double()
    torch.testing.assert_close(mean.grad, expected, rtol=1e-5, atol=1e-8)


def test_lambda_d_follows_lambda_od_as_in_the_public_study() -> None:
    assert (DIPVAE1(5.0).lambda_d, DIPVAE2(5.0).lambda_d) == (50.0, 5.0)
    assert (DIPVAE1(5.0, 0.0).lambda_d, DIPVAE2(5.0, 1).lambda_d) == (0.0, 1.0)

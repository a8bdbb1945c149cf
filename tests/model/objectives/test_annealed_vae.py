from __future__ import annotations

import pytest
import torch

from deft_lightning.model.objectives import AnnealedVAE
from tests.model.objectives.batches import make_batch


@pytest.mark.parametrize(("capacity", "sign"), [(1.0, 1.0), (4.0, -1.0)])
def test_distance_of_the_kl_from_the_capacity_and_its_gradient(capacity: float, sign: float) -> None:
    # Means 1 and 2 with unit variance: KL = (1 + 4) / 2 = 2.5 nats for every image.
    mean = torch.tensor([[1.0, 2.0], [-1.0, 2.0]], requires_grad=True)
    batch = make_batch(mean, torch.zeros(2, 2))
    distance = batch.regulariser(AnnealedVAE(gamma=100.0), capacity)
    torch.testing.assert_close(distance, torch.tensor(100.0 * abs(2.5 - capacity)))
    distance.backward()
    torch.testing.assert_close(mean.grad, sign * 100.0 * mean.detach() / 2)


def test_the_schedule_gives_it_a_capacity() -> None:
    assert AnnealedVAE.quantity == "capacity"

"""A step of the learnt sigma in one of several processes, which import this file: it needs no Lightning."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, distributed

from deft_lightning.model.likelihoods import LearntGaussian

BATCH = 8


def step(rank: int, processes: int) -> dict[str, Tensor]:
    """Term, gradient with respect to a common bias, and both sigmas, on one process's share of a batch."""
    random = torch.Generator().manual_seed(0)
    parameters, images = torch.randn(BATCH, 1, 4, 4, generator=random), torch.rand(BATCH, 1, 4, 4, generator=random)
    images[BATCH // 2 :] *= 0.1  # the shares have different errors
    share = slice(rank * BATCH // processes, (rank + 1) * BATCH // processes)
    bias = torch.zeros((), requires_grad=True)
    likelihood = LearntGaussian()
    term = likelihood.nll(parameters[share] + bias, images[share])
    term.backward()
    logged = likelihood.update(parameters[share], images[share])
    assert bias.grad is not None
    return {"term": term.detach(), "gradient": bias.grad, **logged, "running": likelihood.squared_error}


def one_process(rank: int, processes: int, folder: Path) -> None:
    """Save `step` of this process as rank_<rank>.pt."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=processes)
    torch.save(step(rank, processes), folder / f"rank_{rank}.pt")
    distributed.destroy_process_group()

"""Every objective at a small size, and its step in one of several processes.

Apart from the tests, since the processes import this file: it needs neither Lightning nor the compiler.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, distributed

from deft_lightning.common.seeding import Stream, generator
from deft_lightning.model.objectives import (
    DEFTTC,
    DIPVAE1,
    DIPVAE2,
    AnnealedVAE,
    BetaTCVAE,
    BetaVAE,
    FactorVAE,
    Objective,
)
from tests.model.objectives.batches import make_batch

MAKERS: dict[str, Callable[[], Objective]] = {
    "beta_vae": BetaVAE,
    "annealed_vae": AnnealedVAE,
    "factor_vae": lambda: FactorVAE(hidden=16, layers=2),
    "dip_vae_i": DIPVAE1,
    "dip_vae_ii": DIPVAE2,
    "beta_tcvae": BetaTCVAE,
    "beta_tcvae_stratified": lambda: BetaTCVAE(estimator="stratified"),
    "deft_tc": DEFTTC,
    "deft_tc_stratified": lambda: DEFTTC(estimator="stratified"),
}
BATCH, LATENTS = 12, 4


def make(name: str, latents: int = LATENTS) -> Objective:
    """The objective of that name, built for `latents` latents and a data set of 1000 images."""
    objective = MAKERS[name]()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        objective.build(latents)
    objective.dataset_size = 1000
    return objective


def averaged_step(name: str, rank: int, processes: int) -> tuple[list[Tensor], list[Tensor]]:
    """Gradients of two parameters on one process's share of a batch, and the objective's parameters after `update`."""
    mean, noise = torch.randn(2, BATCH, LATENTS, generator=torch.Generator().manual_seed(3)).unbind()
    parameters = [torch.ones(LATENTS, requires_grad=True), torch.full((LATENTS,), -0.5, requires_grad=True)]
    share = slice(rank * BATCH // processes, (rank + 1) * BATCH // processes)
    batch = make_batch(mean[share] * parameters[0], mean[share].abs() * parameters[1])
    sample = batch.posterior.sample(noise[share])  # a share of the same noise in every process
    objective = make(name)
    # As a capacity 1.7 nats are above the KL of the first half, 1.2, and of the whole, 1.6, and below the other, 2.0.
    batch._replace(sample=sample).regulariser(objective, 1.7).backward()
    objective.update(sample.detach(), generator(0, Stream.OBJECTIVE, 0))
    return [p.grad for p in parameters], [p.detach() for p in objective.parameters()]  # type: ignore[misc]


def one_process(rank: int, processes: int, folder: Path) -> None:
    """Save `averaged_step` of every objective in this process, as rank_<rank>.pt."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=processes)
    results = {name: averaged_step(name, rank, processes) for name in MAKERS}
    torch.save(results, folder / f"rank_{rank}.pt")
    distributed.destroy_process_group()

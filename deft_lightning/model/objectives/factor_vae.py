"""FactorVAE (Kim & Mnih 2018): the total correlation by the density ratio that a discriminator learns."""

from __future__ import annotations

from copy import deepcopy
from itertools import pairwise
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deft_lightning.common import checks
from deft_lightning.model.networks import Posterior, initialise
from deft_lightning.model.objectives.base import Loss, Objective, elbo_parts, global_batch


class FactorVAE(Objective):
    """R + pressure KL + gamma E[D(z)_0 - D(z)_1], D being the two logits of the discriminator.

    D tells z (class 0) from z whose latents are permuted over the batch (class 1): D_0 - D_1 approaches
    log q(z) - sum_d log q(z_d), whose mean is the total correlation, logged as `tc`. D has `layers` fully connected
    layers of `hidden` units and learns by Adam at `lr` in `update`. Raises `DeftError` for arguments out of range.
    """

    label = "FactorVAE"
    learns = True
    discriminator: nn.Sequential  # made by `build`; its parameters ask for gradients only inside `update`
    optimizer: torch.optim.Adam

    def __init__(self, gamma: float = 10.0, hidden: int = 1000, layers: int = 6, lr: float = 1e-4) -> None:
        super().__init__()
        self.gamma = checks.number("objective.gamma", gamma)
        self.hidden, self.layers = (
            checks.whole("objective.hidden", hidden, 1),
            checks.whole("objective.layers", layers, 1),
        )
        self.lr = checks.number("objective.lr", lr, above=True)

    def build(self, latents: int) -> None:
        """Make the discriminator, with weights from torch's global generator."""
        sizes = [latents, *[self.hidden] * self.layers]
        blocks = [
            layer for inputs, outputs in pairwise(sizes) for layer in (nn.Linear(inputs, outputs), nn.LeakyReLU(0.2))
        ]
        self.discriminator = nn.Sequential(*blocks, nn.Linear(self.hidden, 2))
        initialise(self.discriminator)
        self.discriminator.requires_grad_(False)
        self._make_optimizer({})

    def loss(self, batch: Tensor, logits: Tensor, posterior: Posterior, sample: Tensor, pressure: Tensor) -> Loss:
        parts = elbo_parts(batch, logits, posterior)
        judged = self.discriminator(sample)  # [B, 2]
        tc = (judged[:, 0] - judged[:, 1]).mean()
        total = parts["reconstruction"] + pressure * parts["kl"] + self.gamma * tc
        return Loss(total, {"loss": total, **parts, "tc": tc})

    def update(self, sample: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """One Adam step of the discriminator on the global batch; its cross entropy (nats) and accuracy.

        `generator` has to be the same in all processes: each makes the same step.
        """
        with torch.no_grad():
            joint = global_batch(sample.detach().float())  # [B, D]
        order = torch.rand(joint.shape, generator=generator, device=joint.device).argsort(dim=0)  # one a latent
        rows = torch.cat([joint, joint.gather(0, order)])  # [2B, D]
        classes = torch.arange(2, device=rows.device).repeat_interleave(len(joint))
        self.discriminator.requires_grad_(True)
        try:
            with torch.enable_grad():
                judged = self.discriminator(rows)
                cross_entropy = F.cross_entropy(judged, classes)
                cross_entropy.backward()
            self.optimizer.step()
        finally:
            self.optimizer.zero_grad()
            self.discriminator.requires_grad_(False)
        accuracy = (judged.detach().argmax(dim=1) == classes).float().mean()
        return {"discriminator_loss": cross_entropy.detach(), "discriminator_accuracy": accuracy}

    def get_extra_state(self) -> dict[int, dict[str, Tensor]]:
        """Adam's moments and step counts, by the number of the parameter; the weights are in the state already."""
        return self.optimizer.state_dict()["state"]

    def set_extra_state(self, state: dict[int, dict[str, Tensor]]) -> None:
        self._make_optimizer(deepcopy(state))  # or two objectives would share their moments

    def _make_optimizer(self, state: dict[int, dict[str, Tensor]]) -> None:
        """Adam for the discriminator where it is now, going on from `state`."""
        fused = next(self.discriminator.parameters()).device.type in ("cpu", "cuda")
        self.optimizer = torch.optim.Adam(self.discriminator.parameters(), lr=self.lr, betas=(0.5, 0.9), fused=fused)
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """`to` and its like: the moments follow the parameters."""
        super()._apply(fn, recurse)
        if hasattr(self, "optimizer"):
            self._make_optimizer(self.get_extra_state())
        return self

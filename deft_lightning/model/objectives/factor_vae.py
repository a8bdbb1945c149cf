"""FactorVAE (Kim & Mnih 2018): a discriminator estimates the total correlation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from itertools import pairwise
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deft_lightning.common import checks
from deft_lightning.model import optimizers
from deft_lightning.model.compiling import Update, graphed_update_or_not
from deft_lightning.model.global_batch import global_batch
from deft_lightning.model.networks import Posterior, initialise
from deft_lightning.model.objectives.base import Loss, Objective, elbo_parts


class FactorVAE(Objective):
    """FactorVAE (Kim & Mnih 2018): a discriminator estimates the total correlation.

        loss = R + pressure KL + gamma TC
        TC   = E[D(z)_0 - D(z)_1]

    The discriminator D has two logits. It learns to tell samples z (class 0) from samples whose latents are each
    permuted over the batch (class 1). D_0 - D_1 then approaches log q(z) - sum_d log q(z_d), whose mean is the total
    correlation, logged as `tc`.

    Args:
        gamma: weight of the total correlation, from 0 up.
        hidden: units of each fully connected layer of the discriminator.
        layers: number of these layers.
        lr: learning rate of the discriminator's Adam.

    Raises:
        DeftError: for an argument out of range.
    """

    label = "FactorVAE"
    learns = True
    _classify: Update | None = None  # replayed as graphs
    discriminator: nn.Sequential  # made by `build`; its parameters require gradients only inside `update`
    optimizer: torch.optim.Adam

    def __init__(self, gamma: float = 10.0, hidden: int = 1000, layers: int = 6, lr: float = 1e-4) -> None:
        super().__init__()
        self.gamma = checks.number("objective.gamma", gamma)
        self.hidden = checks.whole("objective.hidden", hidden, 1)
        self.layers = checks.whole("objective.layers", layers, 1)
        self.lr = checks.number("objective.lr", lr, above=True)

    def build(self, latents: int) -> None:
        """Make the discriminator. Its weights come from torch's global generator."""
        sizes = [latents, *[self.hidden] * self.layers]
        blocks = [
            layer for inputs, outputs in pairwise(sizes) for layer in (nn.Linear(inputs, outputs), nn.LeakyReLU(0.2))
        ]
        self.discriminator = nn.Sequential(*blocks, nn.Linear(self.hidden, 2))
        initialise(self.discriminator)
        self.discriminator.requires_grad_(False)
        self._make_optimizer({})

    def loss(self, reconstruction: Tensor, posterior: Posterior, sample: Tensor, pressure: Tensor) -> Loss:
        parts = elbo_parts(reconstruction, posterior)
        class_logits = self.discriminator(sample).to(sample.dtype)  # [B, 2], in half precision under autocast
        tc = (class_logits[:, 0] - class_logits[:, 1]).mean()
        total = parts["reconstruction"] + pressure * parts["kl"] + self.gamma * tc
        return Loss(total, {"loss": total, **parts, "tc": tc})

    def update(self, sample: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Take one Adam step of the discriminator on the global batch; its cross entropy (nats) and accuracy.

        `generator` must be in the same state in every process, so that all take the same step.
        """
        with torch.no_grad():
            joint = global_batch(sample.detach().float())  # [B, D]
        noise = torch.rand(joint.shape, generator=generator, device=joint.device)
        classify = self._classify or _classifier(self.discriminator)
        with self._learning():
            cross_entropy, logged = classify(joint, noise)
            cross_entropy.backward()
            self.optimizer.step()
        return dict(zip(("discriminator_loss", "discriminator_accuracy"), logged, strict=True))

    def graph_update(self, sample: Tensor) -> None:
        """Replay the classification of the samples and its gradients as CUDA graphs, or say in a sentence why not.

        In several processes the batch is larger than `sample`, and `update` runs plainly.
        """
        zeros = torch.zeros_like(sample, dtype=torch.float32)
        # As in `update`, which no autocast region surrounds: else it would be compiled again there.
        with self._learning(), torch.autocast(zeros.device.type, enabled=False, cache_enabled=True):
            example = zeros, zeros.clone()
            weights = self.discriminator.parameters()
            self._classify = graphed_update_or_not(_classifier(self.discriminator), example, weights)

    @contextmanager
    def _learning(self) -> Iterator[None]:
        """The discriminator has gradients in the block; they are dropped at its end."""
        self.discriminator.requires_grad_(True)
        try:
            with torch.enable_grad():
                yield
        finally:
            self.optimizer.zero_grad()
            self.discriminator.requires_grad_(False)

    def __getstate__(self) -> dict[str, Any]:
        """A copy makes graphs of its own: those of this objective read the weights of this one."""
        return {**super().__getstate__(), "_classify": None}

    def get_extra_state(self) -> dict[int, dict[str, Tensor]]:
        """Adam's moments and step counts, by the number of the parameter. The weights are saved without this."""
        return self.optimizer.state_dict()["state"]

    def set_extra_state(self, state: dict[int, dict[str, Tensor]]) -> None:
        self._make_optimizer(deepcopy(state))  # without a copy, two objectives would share their moments

    def _make_optimizer(self, state: dict[int, dict[str, Tensor]]) -> None:
        """Make Adam, with its `state`, for the discriminator on the device where it now is."""
        fused = next(self.discriminator.parameters()).device.type in optimizers.FUSED
        self.optimizer = torch.optim.Adam(self.discriminator.parameters(), lr=self.lr, betas=(0.5, 0.9), fused=fused)
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Called by `to` and similar methods: the moments follow the parameters."""
        super()._apply(fn, recurse)
        if hasattr(self, "optimizer"):
            self._make_optimizer(self.get_extra_state())
        return self


def _classifier(discriminator: nn.Module) -> Update:
    """Samples of all processes and uniform noise [B, D] to the cross entropy (nats), and to that and the accuracy."""

    def classify(joint: Tensor, noise: Tensor) -> tuple[Tensor, list[Tensor]]:
        order = noise.argsort(dim=0)  # [B, D], a permutation for each latent
        rows = torch.cat([joint, joint.gather(0, order)])  # [2B, D]
        classes = torch.arange(2, device=rows.device).repeat_interleave(len(joint))
        class_logits = discriminator(rows)
        cross_entropy = F.cross_entropy(class_logits, classes)
        accuracy = (class_logits.detach().argmax(dim=1) == classes).float().mean()
        return cross_entropy, [cross_entropy.detach(), accuracy]

    return classify

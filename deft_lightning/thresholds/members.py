"""Anneal tests that are trained together in one thread, each with its own data and seed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from deft_lightning.common.errors import DeftError
from deft_lightning.data.batches import Batch
from deft_lightning.data.datamodule import FactorDataModule
from deft_lightning.model.module import DEFT
from deft_lightning.model.noise import PosteriorNoise
from deft_lightning.model.objectives import BetaVAE
from deft_lightning.model.schedules.base import Timeline


class Parts(NamedTuple):
    """The loss of every member, averaged over its batch, in nats: `reconstruction` [M] and `kl` [M, D]."""

    reconstruction: Tensor
    kl: Tensor


class Members(ABC):
    """M beta-VAEs under one schedule, each with its own data and seed.

    `modules` provide the initial weights and the seeds, `data` the batches. Up to rounding, each member takes the steps
    that its module would take in a trainer with that data. Raises `DeftError` when a module has several groups or an
    objective other than beta-VAE, or when the batch sizes differ.
    """

    def __init__(
        self, modules: Sequence[DEFT], data: Sequence[FactorDataModule], device: torch.device | str = "cpu"
    ) -> None:
        if any(len(module.groups) > 1 for module in modules):
            raise DeftError("the anneal test has one encoder group: use groups=single.")
        if any(type(module.objective) is not BetaVAE for module in modules):
            raise DeftError("the anneal test trains a beta-VAE: use objective=beta_vae.")
        if len({part.batch_size for part in data}) > 1:
            raise DeftError("the members of a population need the same batch size.")
        self.device = torch.device(device)
        self.timeline: Timeline = modules[0].timeline
        self.seeds = [module.seed for module in modules]
        self.latents = sum(modules[0].groups.latents)
        self._noises = [PosteriorNoise(seed, self.latents) for seed in self.seeds]
        self._data = list(data)
        self._batches = [_batches(part, self.device) for part in data]
        self.step_count = 0

    def __len__(self) -> int:
        return len(self.seeds)

    @abstractmethod
    def step(self) -> Parts:
        """One step of every member under the schedule's pressure; returns the loss before the step."""

    @abstractmethod
    def weights(self) -> dict[str, Any]:
        """The weights of the members and the state of their optimisers."""

    @abstractmethod
    def load_weights(self, state: dict[str, Any]) -> None:
        """Take over what `weights` returned."""

    def state_dict(self) -> dict[str, Any]:
        """Everything the next steps depend on: steps taken, weights, the optimisers' state, positions in the data."""
        return {
            "step_count": self.step_count,
            **self.weights(),
            "data": [part.state_dict() for part in self._data],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from the `state_dict` of the same modules and data; call it before any step."""
        self.load_weights(state)
        for part, position in zip(self._data, state["data"], strict=True):
            part.load_state_dict(position)
        self.step_count = state["step_count"]

    def draw(self) -> tuple[Tensor, Tensor, float]:
        """Images [M, B, C, H, W], noise [M, B, D] and pressure of the next step."""
        images = torch.stack([next(batches) for batches in self._batches])
        batch = images.shape[1]
        noise = torch.stack([noise.at(self.step_count, batch, self.device) for noise in self._noises])
        return images, noise, self.timeline.at(self.step_count).pressure


class Separate(Members):
    """Members that take their steps one after another: for all networks and likelihoods. See `Members`."""

    def __init__(
        self, modules: Sequence[DEFT], data: Sequence[FactorDataModule], device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(modules, data, device)
        self._modules = [module.to(self.device) for module in modules]
        self._optimizers = [module.configure_optimizers() for module in self._modules]

    def step(self) -> Parts:
        images, noise, beta = self.draw()
        pressure = torch.tensor(float(beta), device=self.device)
        parts = []
        for module, optimizer, x, z in zip(self._modules, self._optimizers, images, noise, strict=True):
            optimizer.zero_grad()
            loss = module.compute_loss(x.contiguous(memory_format=torch.channels_last), z, pressure)
            loss.total.backward()
            optimizer.step()
            parts.append(Parts(loss.parts["reconstruction"].detach(), loss.parts["kl/latent"].detach()))
        self.step_count += 1
        errors, kl = zip(*parts, strict=True)
        return Parts(torch.stack(errors), torch.stack(kl))

    def weights(self) -> dict[str, Any]:
        return {
            "modules": [module.state_dict() for module in self._modules],
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
        }

    def load_weights(self, state: dict[str, Any]) -> None:
        for module, weights in zip(self._modules, state["modules"], strict=True):
            module.load_state_dict(weights)
        for optimizer, moments in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(moments)


def _batches(data: FactorDataModule, device: torch.device) -> Iterator[Tensor]:
    """The batches [B, C, H, W] that a trainer would take from `data`, without end."""
    while True:
        for batch in data.train_dataloader():
            yield data.on_after_batch_transfer(Batch(batch.indices.to(device), batch.step), 0)

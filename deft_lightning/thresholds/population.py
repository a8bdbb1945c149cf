"""Many small anneal tests trained together: beta-VAEs of the same shape with stacked parameters.

How each layer runs was chosen with `benchmarks/thresholds_population.py`. The linear layers are one batched matrix
product, the convolutions of the encoders one grouped convolution. The transposed convolutions of the decoders, which
are most of the work, run one member after another: grouped, they are slower on a CPU. The last of them has only as many
output channels as the image, and is faster as a matrix product followed by `fold`.

`torch.func.vmap` over the module gives the same numbers and makes every layer a grouped one. It is no faster for the
smallest subsets and slower for all others. `torch.compile` speeds up neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import stack_module_state

from deft_lightning.common.errors import DeftError
from deft_lightning.data.batches import Batch
from deft_lightning.data.datamodule import FactorDataModule
from deft_lightning.model.module import DEFT
from deft_lightning.model.networks import Convolutional, Posterior
from deft_lightning.model.noise import PosteriorNoise
from deft_lightning.model.objectives import BetaVAE
from deft_lightning.model.schedules.base import Timeline


class Parts(NamedTuple):
    """The loss of every member, averaged over its batch, in nats: `reconstruction` [M] and `kl` [M, D]."""

    reconstruction: Tensor
    kl: Tensor


class Population:
    """M beta-VAEs under one schedule, each with its own data and seed.

    `modules` provide the initial weights and the seeds, `data` the batches. Up to rounding, each member takes the steps
    that its module would take in a trainer with that data. Raises `DeftError` when a module has several groups, an
    objective other than beta-VAE or networks without convolutions, or when the batch sizes differ.
    """

    def __init__(
        self, modules: Sequence[DEFT], data: Sequence[FactorDataModule], device: torch.device | str = "cpu"
    ) -> None:
        if any(len(module.groups) > 1 for module in modules):
            raise DeftError("the anneal test has one encoder group: use groups=single.")
        if any(type(module.objective) is not BetaVAE for module in modules):
            raise DeftError("the anneal test trains a beta-VAE: use objective=beta_vae.")
        if any(not isinstance(module.networks, Convolutional) for module in modules):
            raise DeftError("networks cannot be trained as a population: use networks=burgess or networks=locatello.")
        if len({part.batch_size for part in data}) > 1:
            raise DeftError("the members of a population need the same batch size.")
        self.device = torch.device(device)
        self.timeline: Timeline = modules[0].timeline
        self.seeds = [module.seed for module in modules]
        self.latents = sum(modules[0].groups.latents)
        self._layers = len(modules[0].encoder.groups[0].convolutions)  # type: ignore[union-attr,arg-type]
        self._noises = [PosteriorNoise(seed, self.latents) for seed in self.seeds]
        self._data = list(data)
        self._batches = [_batches(part, self.device) for part in data]
        stacked, _ = stack_module_state(list(modules))
        # [M, ...] each. The weights of linear layers are [M, in, out], the shape in which autograd computes their
        # gradient, so that it need not be transposed and copied.
        self.parameters = {
            name: _transposed(value.detach()).to(self.device).contiguous().requires_grad_()
            for name, value in stacked.items()
        }
        fused = self.device.type in ("cpu", "cuda")
        self._optimizer = torch.optim.Adam(list(self.parameters.values()), lr=modules[0].lr, fused=fused)
        self.step_count = 0

    def __len__(self) -> int:
        return len(self.seeds)

    def step(self) -> Parts:
        """One Adam step of every member under the schedule's pressure; returns the loss before the step."""
        images, noise, pressure = self.draw()
        self._optimizer.zero_grad()
        error, kl = self.evaluate(images, noise)
        # Members share no parameters, so the gradient of the sum holds the gradient of each member.
        (error.sum() + pressure * kl.sum()).backward()
        self._optimizer.step()
        self.step_count += 1
        return Parts(error.detach(), kl.detach())

    @property
    def stacked(self) -> dict[str, Tensor]:
        """The parameters in the shapes that they have in a module, [M, ...] each."""
        return {name: _transposed(value) for name, value in self.parameters.items()}

    def state_dict(self) -> dict[str, Any]:
        """Everything the next steps depend on: steps taken, weights, Adam's state, positions in the data."""
        return {
            "step_count": self.step_count,
            "parameters": {name: value.detach() for name, value in self.parameters.items()},
            "optimizer": self._optimizer.state_dict(),
            "data": [part.state_dict() for part in self._data],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from the `state_dict` of a population of the same modules and data; call it before any step."""
        with torch.no_grad():
            for name, value in self.parameters.items():
                value.copy_(state["parameters"][name])
        self._optimizer.load_state_dict(state["optimizer"])
        for part, position in zip(self._data, state["data"], strict=True):
            part.load_state_dict(position)
        self.step_count = state["step_count"]

    def draw(self) -> tuple[Tensor, Tensor, float]:
        """Images [M, B, C, 64, 64], noise [M, B, D] and pressure of the next step."""
        images = torch.stack([next(batches) for batches in self._batches])
        return images, self._noise(images.shape[1]), self.timeline.at(self.step_count).pressure

    def evaluate(self, images: Tensor, noise: Tensor) -> Parts:
        """The loss of `images` [M, B, C, 64, 64] with `noise` [M, B, D]."""
        batch = images.shape[1]
        features = self._linear(self._convolve(images), "encoder.groups.0.hidden").relu()  # [M, B, 256]
        posterior = Posterior(*self._linear(features, "encoder.groups.0.head").chunk(2, dim=2))  # [M, B, D] each
        hidden = self._linear(posterior.sample(noise), "decoder.hidden").relu()  # [M, B, 256]
        spread = self._linear(hidden, "decoder.spread").relu()  # [M, B, c*4*4]
        return Parts(self._errors(spread, images) / batch, posterior.kl().mean(dim=1))

    def _linear(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self.parameters[f"{name}.weight"], self.parameters[f"{name}.bias"]
        return torch.baddbmm(bias.unsqueeze(1), x, weight)  # [M, B, out]

    def _convolve(self, images: Tensor) -> Tensor:
        members, batch = images.shape[:2]
        x = images.transpose(0, 1).flatten(1, 2)  # [B, M*C, 64, 64]
        x = x.contiguous(memory_format=torch.channels_last)
        for layer in range(self._layers):
            weight = self.parameters[f"encoder.groups.0.convolutions.{layer}.weight"].flatten(0, 1)
            bias = self.parameters[f"encoder.groups.0.convolutions.{layer}.bias"].flatten()
            x = F.conv2d(x, weight, bias, stride=2, padding=1, groups=members).relu()  # [B, M*c, 32], [B, M*c, 16], ...
        return x.reshape(batch, members, -1).transpose(0, 1)  # [M, B, c*4*4]

    def _errors(self, spread: Tensor, images: Tensor) -> Tensor:
        """The Bernoulli negative log likelihood of every member, summed over its batch, [M] in nats."""
        members, batch = images.shape[:2]
        weights, biases = (
            [self.parameters[f"decoder.deconvolutions.{layer}.{kind}"] for layer in range(self._layers)]
            for kind in ("weight", "bias")
        )
        inner = [(w.unbind(), b.unbind()) for w, b in zip(weights[:-1], biases[:-1], strict=True)]
        kernels = weights[-1].flatten(2).unbind()  # M of [c, C*4*4]
        patches = []
        for member, x in enumerate(spread.unbind()):
            x = x.unflatten(1, (-1, 4, 4)).contiguous(memory_format=torch.channels_last)  # [B, c, 4, 4]  # noqa: PLW2901
            for weight, bias in inner:
                kernel = weight[member].contiguous(memory_format=torch.channels_last)
                x = F.conv_transpose2d(x, kernel, bias[member], stride=2, padding=1).relu()  # noqa: PLW2901
            patches.append(x.permute(0, 2, 3, 1).flatten(0, 2) @ kernels[member])  # [B*32*32, C*4*4]
        columns = torch.stack(patches).view(members * batch, -1, kernels[0].shape[1]).mT  # [M*B, C*4*4, 32*32]
        logits = F.fold(columns, images.shape[-2:], kernel_size=4, stride=2, padding=1).view(images.shape)
        logits = logits + biases[-1].view(members, 1, -1, 1, 1)
        return F.binary_cross_entropy_with_logits(logits, images, reduction="none").flatten(1).sum(dim=1)

    def _noise(self, batch: int) -> Tensor:
        """The noise that the module of every member draws at this step, [M, B, D]."""
        return torch.stack([noise.at(self.step_count, batch, self.device) for noise in self._noises])


def _transposed(parameter: Tensor) -> Tensor:
    """The stacked weights of a linear layer from [M, out, in] to [M, in, out] or back; other parameters unchanged."""
    return parameter.mT if parameter.dim() == 3 else parameter


def _batches(data: FactorDataModule, device: torch.device) -> Iterator[Tensor]:
    """The batches [B, C, 64, 64] that a trainer would take from `data`, without end."""
    while True:
        for batch in data.train_dataloader():
            yield data.on_after_batch_transfer(Batch(batch.indices.to(device), batch.step), 0)

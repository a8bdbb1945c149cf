"""Many small anneal tests trained together: beta-VAEs of the same shape with stacked parameters.

How each layer runs was chosen with `benchmarks/thresholds_population.py`. The linear layers are one batched matrix
product, the convolutions of the encoders one grouped convolution. The transposed convolutions of the decoders, which
are most of the work, run one member after another: grouped, they are slower on a CPU. The last of them has only as many
output channels as the image, and is faster as a matrix product followed by `fold`.

`torch.func.vmap` over the module gives the same numbers and makes every layer a grouped one. It is no faster for the
smallest subsets and slower for all others. `torch.compile` speeds up neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import stack_module_state

from deft_lightning.common.errors import DeftError
from deft_lightning.data.datamodule import FactorDataModule
from deft_lightning.model.likelihoods import Bernoulli
from deft_lightning.model.module import DEFT
from deft_lightning.model.networks import Burgess, Locatello, Posterior
from deft_lightning.model.optimizers import Adam, AdamW
from deft_lightning.thresholds.members import Members, Parts


class Population(Members):
    """Members with stacked parameters, which take their steps together; see `Members`.

    Raises `DeftError` also when the networks are not the convolutional ones of the package, or the likelihood is not
    Bernoulli: the layers and the term are written out here.
    """

    def __init__(
        self, modules: Sequence[DEFT], data: Sequence[FactorDataModule], device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(modules, data, device)
        if not self.takes(modules):
            raise DeftError(
                "networks cannot be trained as a population: use networks=burgess or networks=locatello, with "
                "likelihood=bernoulli."
            )
        self._layers = len(modules[0].encoder.groups[0].convolutions)  # type: ignore[union-attr,arg-type]
        stacked, _ = stack_module_state(list(modules))
        # [M, ...] each. The weights of linear layers are [M, in, out], the shape in which autograd computes their
        # gradient, so that it need not be transposed and copied.
        self.parameters = {
            name: _transposed(value.detach()).to(self.device).contiguous().requires_grad_()
            for name, value in stacked.items()
        }
        # An optimiser whose steps are elementwise takes the same ones on stacked parameters.
        factory = modules[0].optimizer
        self._optimizer = factory.make(list(self.parameters.values()), modules[0].lr, self.device.type)

    @staticmethod
    def takes(modules: Sequence[DEFT]) -> bool:
        """Whether the parts of `modules` are those whose arithmetic and optimiser can be stacked."""
        return all(
            type(module.networks) in (Burgess, Locatello)  # a subclass may compute something else
            and type(module.likelihood) is Bernoulli
            and type(module.optimizer) in (Adam, AdamW)
            for module in modules
        )

    def step(self) -> Parts:
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

    def weights(self) -> dict[str, Any]:
        return {
            "parameters": {name: value.detach() for name, value in self.parameters.items()},
            "optimizer": self._optimizer.state_dict(),
        }

    def load_weights(self, state: dict[str, Any]) -> None:
        with torch.no_grad():
            for name, value in self.parameters.items():
                value.copy_(state["parameters"][name])
        self._optimizer.load_state_dict(state["optimizer"])

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


def _transposed(parameter: Tensor) -> Tensor:
    """The stacked weights of a linear layer from [M, out, in] to [M, in, out] or back; other parameters unchanged."""
    return parameter.mT if parameter.dim() == 3 else parameter

"""Trainings joined in one process, in a part of `accelerator.py`: would that be faster than processes side by side?

M models of DEFT take their steps together: the convolutions of all members and encoder groups are one grouped
convolution, and their fully connected layers one batched product. It is a bare loop, as those of the part `single`. A
sweep of joined members would also need schedules, checkpoints, callbacks and failures of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from accelerator_training import BATCH, PRESSURES, Packed, deft, products, skipped, timed  # beside this file
from torch import Tensor, nn
from torch._dynamo.utils import counters

import deft_lightning as dl
from deft_lightning.model.networks import Posterior
from deft_lightning.model.networks.convolutional import Decoder, Encoder


class Joined(nn.Module):
    """The weights of M models of DEFT with the networks `Burgess`, stacked layer by layer."""

    def __init__(self, models: Sequence[dl.DEFT]) -> None:
        super().__init__()
        self.members, self.latents = len(models), models[0].groups.latents
        encoders = [cast(Encoder, group) for model in models for group in model.encoder.groups]
        decoders = [cast(Decoder, model.decoder) for model in models]
        self.encoder = _stacked([[*encoder.convolutions] for encoder in encoders], joined=True)
        self.encoder_hidden = _stacked([[encoder.hidden] for encoder in encoders], joined=False)
        self.heads = _stacked([[_padded(encoder.head, 2 * max(self.latents))] for encoder in encoders], joined=False)
        self.decoder_hidden = _stacked([[decoder.hidden, decoder.spread] for decoder in decoders], joined=False)
        self.decoder = _stacked([[*decoder.deconvolutions] for decoder in decoders], joined=True)

    def forward(self, images: Tensor, noise: Tensor, pressure: Tensor) -> Tensor:
        """The sum of the members' losses in nats, for images [B, M C, H, W] and noise [M, B, D]."""
        count, encoders = len(images), self.members * len(self.latents)
        x = images
        for layer, (weight, bias) in enumerate(_pairs(self.encoder)):
            # The groups of a member all read its whole image.
            x = F.relu(F.conv2d(x, weight, bias, 2, 1, groups=encoders if layer else self.members))
        x = x.reshape(count, encoders, -1).transpose(0, 1)  # [M G, B, c 4 4]
        for weight, bias in _pairs(self.encoder_hidden):
            x = F.relu(torch.baddbmm(bias, x, weight))
        ((weight, bias),) = _pairs(self.heads)
        heads = torch.baddbmm(bias, x, weight).view(self.members, len(self.latents), count, -1).float()
        mean, log_variance = (
            torch.cat([heads[:, i, :, part * n : (part + 1) * n] for i, n in enumerate(self.latents)], dim=-1)
            for part in (0, 1)
        )  # [M, B, D] each
        posterior = Posterior(mean, log_variance)
        x = posterior.sample(noise)
        for weight, bias in _pairs(self.decoder_hidden):
            x = F.relu(torch.baddbmm(bias, x, weight))
        x = x.transpose(0, 1).reshape(count, -1, 4, 4).contiguous(memory_format=torch.channels_last)  # [B, M c, 4, 4]
        last = len(self.decoder) // 2 - 1
        for layer, (weight, bias) in enumerate(_pairs(self.decoder)):
            x = F.conv_transpose2d(x, weight, bias, 2, 1, groups=self.members)
            x = x if layer == last else F.relu(x)
        nll = F.binary_cross_entropy_with_logits(x.float(), images, reduction="sum") / count
        return nll + pressure * posterior.kl().sum() / count


def _stacked(models: Sequence[Sequence[Any]], joined: bool) -> nn.ParameterList:
    """Weight and bias of every layer of all models: kernels behind each other if `joined`, else as factors of `bmm`."""
    parameters = []
    for layers in zip(*models, strict=True):
        weights = [layer.weight.detach() for layer in layers]
        biases = [layer.bias.detach() for layer in layers]
        if joined:
            parameters += [torch.cat(weights), torch.cat(biases)]
        else:
            parameters += [torch.stack(weights).transpose(1, 2).contiguous(), torch.stack(biases)[:, None]]
    return nn.ParameterList(parameters)


def _padded(head: nn.Linear, outputs: int) -> nn.Linear:
    """`head` with so many outputs, of which those that it has not are not used."""
    wider = nn.Linear(head.in_features, outputs)
    with torch.no_grad():
        wider.weight[: head.out_features], wider.bias[: head.out_features] = head.weight, head.bias
    return wider


def _pairs(parameters: nn.ParameterList) -> list[tuple[Tensor, Tensor]]:
    return list(zip(parameters[::2], parameters[1::2], strict=True))


def joined(device: torch.device, members: int, *, kind: str, seconds: float, profiled: bool = False) -> dict[str, Any]:
    """Images a second of all members together in a bare loop, with the images decoded on the device."""
    cuda = device.type == "cuda"
    model = Joined([deft(compiled=False) for _ in range(members)]).to(device)
    how: dict[str, Any] = {"mode": "reduce-overhead", "fullgraph": True} if cuda else {"backend": "aot_eager"}
    step = torch.compile(model, dynamic=False, **how)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-4, fused=True)
    counters.clear()
    dataset, random = Packed().to(device), torch.Generator(device)
    pressure = torch.full((), PRESSURES[0], device=device)

    def steps(count: int) -> None:
        for _ in range(count):
            indices = torch.randint(len(dataset), (BATCH * members,), device=device)
            images = dataset.images(indices, random).view(BATCH, -1, 64, 64)
            images = images.contiguous(memory_format=torch.channels_last)
            noise = torch.randn(members, BATCH, sum(model.latents), device=device)
            if cuda:
                torch.compiler.cudagraph_mark_step_begin()
            with torch.autocast(device.type, torch.bfloat16, enabled=kind == "bf16"):
                loss = step(images, noise, pressure)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    with products(kind):
        row = timed(steps, device, seconds, BATCH * members, profiled)
    notes = [kind, f"{row['images_per_second'] / members:,.0f} each", row.get("note"), skipped().get("note")]
    return row | {"note": ", ".join(filter(None, notes))}

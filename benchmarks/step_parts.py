"""What a training step of DEFT on Color dSprites consists of, part by part, against what this processor can do.

    python benchmarks/step_parts.py [--repeats 60]

Each part runs alone, forward and backward, on a batch of 64 images in fp32. Its operations and the bytes that it has to
read and write are counted from its shapes. The bound is the time that these need at the rate of a matrix product of
2048 x 2048 and at the rate of a copy of 64 MB, whichever is longer. The parts take turns; the median counts. Keep the
machine quiet meanwhile.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import rich
import torch
from torch import Tensor
from training_throughput import BATCH, PRESSURE, matrix_product_rate, module

from deft_lightning.common import console, memory, subnormals
from deft_lightning.model.networks import Posterior
from deft_lightning.model.networks.convolutional import GroupedEncoder
from deft_lightning.model.networks.layers import (
    convolution_relu,
    transposed_convolution,
    transposed_convolution_relu,
)
from deft_lightning.model.objectives import loss_function


@dataclass
class Part:
    """A part of the step: `run` computes it, with `operations` and `bytes` of all of it."""

    name: str
    run: Callable[[], object]
    operations: float
    bytes: float


def differentiated(function: Callable[..., Tensor], *inputs: Tensor, data: bool = False) -> Callable[[], object]:
    """`function` of `inputs` and the gradients of all of them; with `data` the first needs none."""
    leaves = [x.detach().requires_grad_(not (data and place == 0)) for place, x in enumerate(inputs)]
    wanted = leaves[1:] if data else leaves
    gradient = torch.randn_like(function(*leaves))

    def run() -> object:
        return torch.autograd.grad(function(*leaves), wanted, gradient)

    return run


def layer(name: str, function: Callable[..., Tensor], x: Tensor, *weights: Tensor, data: bool = False) -> Part:
    """A layer: three products of the size of the forward one, of which `data` saves one."""
    output = function(x, *weights)
    transposed = output.dim() == 4 and output.shape[2] > x.shape[2]
    positions = (x if transposed else output)[0, 0].numel() if output.dim() == 4 else 1
    forward = 2.0 * BATCH * weights[0].numel() * positions
    # Forward: x and the output. Backward: the gradient of the output, the output (for the ReLU) and x, and the
    # gradient of x.
    values = (2 if data else 3) * x.numel() + 3 * output.numel()
    run = differentiated(function, x, *weights, data=data)
    return Part(name, run, forward * (2 if data else 3), 4.0 * values)


def parts() -> list[Part]:
    """The parts of a step of DEFT's four groups."""
    deft = module("deft")
    encoder: Any = deft.encoder
    assert isinstance(encoder, GroupedEncoder)
    decoder: Any = deft.decoder
    found: list[Part] = []

    def random(*shape: int) -> Tensor:
        x = torch.rand(*shape)
        return x.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else x

    x = random(BATCH, 3, 64, 64)
    groups: list[Any] = list(encoder.groups)
    for place in range(4):
        convolutions = [group.convolutions[place] for group in groups]
        weight, bias = (torch.cat([getattr(c, kind).detach() for c in convolutions]) for kind in ("weight", "bias"))
        count = 1 if place == 0 else 4

        def convolution(x: Tensor, weight: Tensor, bias: Tensor, count: int = count) -> Tensor:
            return convolution_relu(x, weight, bias, groups=count)

        found.append(layer(f"encoder, convolution {place + 1}", convolution, x, weight, bias, data=place == 0))
        x = convolution(x, weight, bias).detach()
    features = x.flatten(1)
    linear = [group.hidden for group in groups] + [group.head for group in groups]
    found.append(
        Part(
            "encoder, linear layers",
            _heads(encoder, features),
            6.0 * BATCH * sum(one.weight.numel() for one in linear),
            4.0 * (5 * features.numel() + sum(2 * one.weight.numel() for one in linear)),
        )
    )
    latents = random(BATCH, 10)
    hidden = [decoder.hidden, decoder.spread]
    found.append(
        Part(
            "decoder, linear layers",
            differentiated(lambda z: decoder.spread(decoder.hidden(z).relu()).relu(), latents),
            6.0 * BATCH * sum(one.weight.numel() for one in hidden),
            4.0 * (5 * BATCH * 512 + sum(2 * one.weight.numel() for one in hidden)),
        )
    )
    x = random(BATCH, 32, 4, 4)
    for place, deconvolution in enumerate(decoder.deconvolutions):
        last = place == len(decoder.deconvolutions) - 1
        function = transposed_convolution if last else transposed_convolution_relu
        weight, bias = deconvolution.weight.detach(), deconvolution.bias.detach()
        found.append(layer(f"decoder, transposed convolution {place + 1}", function, x, weight, bias))
        x = function(x, weight, bias).detach()
    found.append(Part("loss", _loss(deft, x), 0.0, 4.0 * 4 * x.numel()))  # reads both, writes and reads the gradient
    weights = sum(weight.numel() for weight in deft.parameters())
    found.append(Part("Adam and zero_grad", _adam(deft), 0.0, 4.0 * 7 * weights))
    return found


def _heads(encoder: GroupedEncoder, features: Tensor) -> Callable[[], object]:
    groups: list[Any] = list(encoder.groups)

    def function(x: Tensor) -> Tensor:
        pieces = x.chunk(len(groups), dim=1)
        return torch.cat([g.head(g.hidden(f).relu()) for g, f in zip(groups, pieces, strict=True)], dim=1)

    x = features.detach().requires_grad_()
    gradient = torch.randn_like(function(x))
    weights = [weight for g in groups for one in (g.hidden, g.head) for weight in one.parameters()]
    return lambda: torch.autograd.grad(function(x), [x, *weights], gradient)


def _loss(deft: Any, like: Tensor) -> Callable[[], object]:
    compiled = torch.compile(loss_function(deft.likelihood, deft.objective), dynamic=False)
    images = (torch.rand_like(like) > 0.5).float()
    parameters = torch.randn_like(like).requires_grad_()
    posterior = Posterior(*(torch.zeros(BATCH, 10, requires_grad=True) for _ in range(2)))
    pressure = torch.tensor(PRESSURE)

    def run() -> object:
        sample = posterior.sample(torch.zeros(BATCH, 10))
        compiled(images, parameters, posterior, sample, pressure).total.backward()
        return None

    return run


def _adam(deft: Any) -> Callable[[], object]:
    optimizer: Any = deft.configure_optimizers()

    def run() -> object:
        for weight in deft.parameters():
            weight.grad = gradients[weight]
        optimizer.step()
        optimizer.zero_grad()
        return None

    gradients = {weight: torch.randn_like(weight) for weight in deft.parameters()}
    return run


def copy_rate(repeats: int = 20) -> float:
    """Bytes a second that a copy of 64 MB reads and writes."""
    source = torch.rand(16 * 2**20)
    target = torch.empty_like(source)
    target.copy_(source)
    begin = time.perf_counter()
    for _ in range(repeats):
        target.copy_(source)
    return 2 * source.nbytes * repeats / (time.perf_counter() - begin)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=60, help="of every part")
    options = parser.parse_args()
    console.quieten()
    memory.retain_freed()
    subnormals.flush(True)
    products, copies = matrix_product_rate(torch.float32), copy_rate()
    all_parts = parts()
    seconds: dict[str, list[float]] = {part.name: [] for part in all_parts}
    for turn in range(options.repeats + 3):
        for part in all_parts:
            begin = time.perf_counter()
            part.run()
            if turn >= 3:
                seconds[part.name].append(time.perf_counter() - begin)
    table = console.new_table("part", "MFLOP", "MB", "ms", "GFLOP/s", "bound ms", "share of the bound")
    total = bound_of_all = 0.0
    for part in all_parts:
        measured = statistics.median(seconds[part.name])
        bound = max(part.operations / products, part.bytes / copies)
        total, bound_of_all = total + measured, bound_of_all + bound
        table.add_row(
            part.name,
            f"{part.operations / 1e6:,.0f}",
            f"{part.bytes / 1e6:.1f}",
            f"{1e3 * measured:.2f}",
            f"{part.operations / measured / 1e9:.0f}" if part.operations else "",
            f"{1e3 * bound:.2f}",
            f"{bound / measured:.0%}",
        )
    table.add_row("all", "", "", f"{1e3 * total:.2f}", "", f"{1e3 * bound_of_all:.2f}", f"{bound_of_all / total:.0%}")
    rich.print(f"Matrix product: {products / 1e9:.0f} GFLOP/s. Copy: {copies / 1e9:.1f} GB/s.")
    rich.print(table)


if __name__ == "__main__":
    main()

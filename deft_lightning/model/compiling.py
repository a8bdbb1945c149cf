"""torch.compile where it works, and how much of a training step it compiles: a matter of the device.

    cpu     the loss alone: the convolutions have a backward of their own, see `networks.layers`
    cuda    networks and loss, forward and backward, each replayed as a CUDA graph: the networks are so small that
            starting their kernels one by one takes longer than the kernels
    others  nothing

The optimiser is never part of it, so that Algorithm 1 can set learning rates before each step.
"""

from __future__ import annotations

import importlib.util
import logging
import shutil
import sysconfig
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor
from torch._dynamo.exc import BackendCompilerFailed

if TYPE_CHECKING:
    from deft_lightning.model.module import DEFT, Output
    from deft_lightning.model.objectives.base import Loss

log = logging.getLogger(__name__)

Result = TypeVar("Result")
LossFunction = Callable[..., "Loss"]
Step = Callable[[Tensor, Tensor, Tensor], tuple["Output", "Loss"]]
"""Images [B, C, H, W], noise [B, D] and a scalar pressure to what the model computes and its loss."""

GRAPHED = ("cuda",)
"""Devices on which a step is replayed as graphs."""
TRIALS = 3
"""Steps that a graph needs before it is replayed: one warms up, one is recorded, one is replayed."""


def plain_step(model: DEFT, loss: LossFunction) -> Step:
    """The step of `model` under the function `loss`, not compiled."""

    def step(images: Tensor, noise: Tensor, pressure: Tensor) -> tuple[Output, Loss]:
        output = model(images, noise)
        return output, loss(images, output.parameters, output.posterior, output.sample, pressure)

    return step


def compiled_step(model: DEFT, loss: LossFunction, example: tuple[Tensor, Tensor, Tensor]) -> Step:
    """`plain_step`, with as much of it compiled as fits the device; plain, with one sentence, where that fails.

    `example` are images, noise and pressure of a step, on which it is tried.
    """
    device = example[0].device
    if not can_compile(device.type):
        log.info("torch.compile needs a C++ compiler and Python's headers, or Triton: training without it.")
        return plain_step(model, loss)
    if device.type in GRAPHED:
        return graphed_or_not(plain_step(model, loss), example, model.parameters())
    output = model(*example[:2])
    arguments = (example[0], output.parameters, output.posterior, output.sample, example[2])
    return plain_step(model, compile_or_not(loss, arguments))


def compile_or_not(function: Callable[..., Result], example: tuple[Any, ...]) -> Callable[..., Result]:
    """`function` compiled, if that works for the arguments `example`; else itself, with one sentence."""
    compiled = torch.compile(function, dynamic=False)
    try:
        compiled(*example)
    except BackendCompilerFailed as error:  # such as a compiler without OpenMP or headers
        log.info("torch.compile failed (%s): training without it.", type(error.inner_exception).__name__)
        return function
    return compiled


def graphed_or_not(step: Step, example: tuple[Tensor, Tensor, Tensor], weights: Iterable[Tensor]) -> Step:
    """`step` replayed as CUDA graphs, if that works for `example`; else itself, with one sentence.

    A replay writes into the memory of the one before. What outlives a step is therefore copied: the parts of the loss,
    which callbacks read, and the sample. Gradients are not, since the optimiser has used them by then. Batches of
    another size than that of `example`, on another device or without gradients, run plainly.
    """
    compiled = torch.compile(step, dynamic=False, fullgraph=True, mode="reduce-overhead")
    captured = example[0].shape, example[0].device

    def graphed(images: Tensor, noise: Tensor, pressure: Tensor) -> tuple[Output, Loss]:
        if (images.shape, images.device) != captured or not torch.is_grad_enabled():
            return step(images, noise, pressure)
        torch.compiler.cudagraph_mark_step_begin()  # the outputs of the last step may be overwritten
        output, loss = compiled(images, noise, pressure)
        sample, *parts = copied([output.sample, *loss.parts.values()])
        return output._replace(sample=sample), loss._replace(parts=dict(zip(loss.parts, parts, strict=True)))

    weights = [weight for weight in weights if weight.requires_grad]
    try:
        for _ in range(TRIALS):
            loss = graphed(*example)[1].total
            with torch.autocast(loss.device.type, enabled=False):  # as the trainer differentiates
                torch.autograd.grad(loss, weights, allow_unused=True)
    except Exception as error:  # compiler, Triton, driver and capture raise classes of their own
        reason = type(getattr(error, "inner_exception", error)).__name__
        log.info("torch.compile failed (%s): training without it.", reason)
        return step
    return graphed


def copied(tensors: list[Tensor]) -> list[Tensor]:
    """Detached copies of `tensors`, made in one call."""
    return list(torch._foreach_mul([tensor.detach() for tensor in tensors], 1.0))


def can_compile(device_type: str) -> bool:
    """Whether torch.compile can work: it needs a C++ compiler and Python's headers on a CPU, and Triton on CUDA."""
    if device_type == "cpu":
        headers = Path(sysconfig.get_path("include"), "Python.h").is_file()
        return headers and any(shutil.which(compiler) for compiler in ("g++", "clang++", "c++"))
    return device_type in GRAPHED and importlib.util.find_spec("triton") is not None

"""torch.compile where it works, and how much of a training step it compiles: a matter of the device.

    cpu     the loss alone: the convolutions have a backward of their own, see `networks.layers`
    cuda    networks and loss, forward and backward, each replayed as a CUDA graph: the networks are so small that
            starting their kernels one by one takes longer than the kernels; and so is the update of FactorVAE's
            discriminator
    others  nothing

An optimiser is never part of it, so that Algorithm 1 can set learning rates before each step.
"""

from __future__ import annotations

import importlib.util
import logging
import shutil
import sysconfig
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor
from torch._dynamo.exc import BackendCompilerFailed

if TYPE_CHECKING:
    from deft_lightning.model.module import DEFT
    from deft_lightning.model.objectives.base import Loss

log = logging.getLogger(__name__)

Result = TypeVar("Result")
LossFunction = Callable[..., "Loss"]
Step = Callable[[Tensor, Tensor, Tensor], tuple["Loss", Tensor, Tensor]]
"""Images [B, C, H, W], noise [B, D] and a scalar pressure to the loss, the sample [B, D] and the parameters of the
likelihood [B, C, H, W]. Only `total` of the loss has gradients."""

Update = Callable[[Tensor, Tensor], tuple[Tensor, list[Tensor]]]
"""Samples and noise [B, D] to a loss that has gradients, and to what is logged, which has none."""

GRAPHED = ("cuda",)
"""Devices on which a step is replayed as graphs."""
NEEDED = "a C++ compiler, Python's headers and an environment whose path has no spaces, on CUDA Triton"
"""What torch.compile cannot do without."""
TRIALS = 3
"""Steps that a graph needs before it is replayed: one warms up, one is recorded, one is replayed."""


def plain_step(model: DEFT, loss: LossFunction) -> Step:
    """The step of `model` under the function `loss`, not compiled."""

    def step(images: Tensor, noise: Tensor, pressure: Tensor) -> tuple[Loss, Tensor, Tensor]:
        output = model(images, noise)
        result = loss(images, output.parameters, output.posterior, output.sample, pressure)
        # Every output with gradients costs the backward of a compiled step a tensor of zeros, and adding it up.
        parts = {name: part.detach() for name, part in result.parts.items()}
        return result._replace(parts=parts), output.sample.detach(), output.parameters.detach()

    return step


def compiled_step(model: DEFT, loss: LossFunction, example: tuple[Tensor, Tensor, Tensor]) -> Step:
    """`plain_step`, with as much of it compiled as fits the device; plain, with one sentence, where that fails.

    `example` are images, noise and pressure of a step, on which it is tried.
    """
    device = example[0].device
    if not can_compile(device.type):
        log.info("torch.compile needs %s: training without it.", NEEDED)
        return plain_step(model, loss)
    if device.type in GRAPHED:
        plain = plain_step(model, loss)
        step = graphed_or_not(plain, example, model.parameters())
        if step is not plain:
            model.objective.graph_update(example[1])
        return step
    output = model(*example[:2])
    arguments = (example[0], output.parameters, output.posterior, output.sample, example[2])
    return plain_step(model, compile_or_not(loss, arguments))


def compile_or_not(function: Callable[..., Result], example: tuple[Any, ...]) -> Callable[..., Result]:
    """`function` compiled, if that works for the arguments `example`; else itself, with one sentence."""
    compiled = torch.compile(with_own_code(function), dynamic=False)
    try:
        compiled(*example)
    except BackendCompilerFailed as error:  # such as a compiler without OpenMP or headers
        _tell(error, "training")
        return function
    return compiled


def graphed_or_not(step: Step, example: tuple[Tensor, Tensor, Tensor], weights: Iterable[Tensor]) -> Step:
    """`step` replayed as CUDA graphs, if that works for `example`; else itself, with one sentence.

    A replay writes into the memory of the one before. What outlives a step is therefore copied: the parts of the loss,
    which callbacks read, and the sample. Gradients are not, since the optimiser has used them by then. Batches of
    another size than that of `example`, on another device or without gradients, run plainly.
    """

    def kept(result: tuple[Loss, Tensor, Tensor]) -> tuple[Loss, Tensor, Tensor]:
        loss, sample, parameters = result
        sample, *parts = copied([sample, *loss.parts.values()])
        return loss._replace(parts=dict(zip(loss.parts, parts, strict=True))), sample, parameters

    return _replayed(step, example, weights, kept, lambda result: result[0].total, "training")


def graphed_update_or_not(update: Update, example: tuple[Tensor, Tensor], weights: Iterable[Tensor]) -> Update:
    """As `graphed_or_not`, for what an objective trains itself: what is logged is copied, the gradients are not."""

    def kept(result: tuple[Tensor, list[Tensor]]) -> tuple[Tensor, list[Tensor]]:
        loss, logged = result
        return loss, copied(logged)

    what = "training the objective's own parameters"
    return _replayed(update, example, weights, kept, lambda result: result[0], what)


def _replayed(
    function: Callable[..., Result],
    example: tuple[Tensor, ...],
    weights: Iterable[Tensor],
    kept: Callable[[Result], Result],
    loss: Callable[[Result], Tensor],
    what: str,
) -> Callable[..., Result]:
    """`function` replayed as CUDA graphs, or itself, with a sentence that says that `what` goes without.

    `kept` copies what of a result outlives the step, and `loss` is what of it has gradients with respect to `weights`.
    A capture that fails leaves its stream behind as the current one. That is undone; what the allocator of CUDA keeps
    for the capture cannot be.
    """
    compiled = torch.compile(with_own_code(function), dynamic=False, fullgraph=True, **_how())
    device = example[0].device
    captured = example[0].shape, device

    def graphed(*arguments: Tensor) -> Result:
        if (arguments[0].shape, arguments[0].device) != captured or not torch.is_grad_enabled():
            return function(*arguments)
        torch.compiler.cudagraph_mark_step_begin()  # the outputs of the last replay may be overwritten
        return kept(compiled(*arguments))

    stream = torch.cuda.current_stream(device) if device.type == "cuda" else None
    weights = [weight for weight in weights if weight.requires_grad]
    try:
        for _ in range(TRIALS):
            result = graphed(*example)
            with torch.autocast(device.type, enabled=False):  # as the trainer differentiates
                torch.autograd.grad(loss(result), weights, allow_unused=True)
    except Exception as error:  # compiler, Triton, driver and capture raise classes of their own
        _tell(error, what)
        if stream is not None:
            torch.cuda.set_stream(stream)
        return function
    return graphed


def with_own_code(function: Callable[..., Result]) -> Callable[..., Result]:
    """`function` with a code object of its own, on which torch.compile keeps what it compiles.

    With that of all functions of its kind, the ninth objective, network or weight of a sweep in one process would be
    one too many.
    """
    if not isinstance(function, FunctionType):
        return function
    parts = function.__globals__, function.__name__, function.__defaults__, function.__closure__
    return FunctionType(function.__code__.replace(), *parts)


def _how() -> dict[str, Any]:
    """How torch.compile makes graphs. In PyTorch's deterministic mode the sizes of kernels are not chosen by timing."""
    if torch.are_deterministic_algorithms_enabled() and "deterministic" in torch._inductor.list_options():
        return {"options": {"triton.cudagraphs": True, "deterministic": True}}
    return {"mode": "reduce-overhead"}


def _tell(error: Exception, what: str) -> None:
    """Say in one line why `what` is not compiled; the whole error, for whoever logs at that level."""
    error = getattr(error, "inner_exception", error)
    reason = ": ".join(filter(None, (type(error).__name__, str(error).partition("\n")[0])))
    log.info("torch.compile failed (%s): %s without it.", reason, what)
    log.debug("What torch.compile has raised", exc_info=error)


def copied(tensors: list[Tensor]) -> list[Tensor]:
    """Copies of `tensors`, which have no gradients, made in one call."""
    return list(torch._foreach_mul(tensors, 1.0))


def can_compile(device_type: str) -> bool:
    """Whether torch.compile can work on a device, see `NEEDED`."""
    if device_type == "cpu":
        headers = Path(sysconfig.get_path("include"), "Python.h").is_file()
        quoted = " " not in str(Path(torch.__file__).parent)  # it passes the folder to the linker as it is
        return headers and quoted and any(shutil.which(compiler) for compiler in ("g++", "clang++", "c++"))
    return device_type in GRAPHED and importlib.util.find_spec("triton") is not None

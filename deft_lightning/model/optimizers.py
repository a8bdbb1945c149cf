"""Optimisers of the encoders and the decoder. Algorithm 1 sets the learning rate of every group before each step.

An optimiser that learns with a single rate for all, or that needs the loss again in its step, does not fit Algorithm 1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from deft_lightning.common import checks
from deft_lightning.common.errors import DeftError

if TYPE_CHECKING:  # torch is not needed to check a configuration
    from torch.optim import Optimizer

FUSED = ("cpu", "cuda")
"""Devices on which torch takes the step of all parameters in one call."""


class OptimizerFactory(ABC):
    """Makes the optimiser of a model."""

    @abstractmethod
    def make(self, parameters: Iterable[Any], lr: float, device: str) -> Optimizer:
        """A new optimiser.

        Args:
            parameters: tensors, or parameter groups of torch, one for each encoder group and one for the decoder.
            lr: first learning rate of all groups; the module sets "lr" of every group before each step.
            device: type of the device of the parameters, such as "cpu".
        """


class Adam(OptimizerFactory):
    """Adam (Kingma & Ba 2015).

    Args:
        betas: decay of the running means of the gradient and of its square, [2], from 0 to below 1.
        eps: added to the root of the latter, from 0 up.
        weight_decay: from 0 up; it is added to the gradient, times the weights.

    Raises:
        DeftError: for an argument out of range.
    """

    kind: ClassVar[str] = "Adam"  # in torch.optim

    def __init__(self, betas: Sequence[float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.0) -> None:
        is_list = isinstance(betas, Sequence) and not isinstance(betas, str) and len(betas) == 2
        if not is_list or not all(checks.is_number(beta) and 0 <= beta < 1 for beta in betas):
            raise DeftError(f"optimizer.betas is {betas!r}: give two numbers from 0 to below 1, as in [0.9,0.999].")
        self.betas = tuple(betas)
        self.eps = checks.number("optimizer.eps", eps)
        self.weight_decay = checks.number("optimizer.weight_decay", weight_decay)

    def make(self, parameters: Iterable[Any], lr: float, device: str) -> Optimizer:
        import torch  # noqa: PLC0415

        options: dict[str, Any] = {"betas": self.betas, "eps": self.eps, "weight_decay": self.weight_decay}
        optimizer: Optimizer = getattr(torch.optim, self.kind)(parameters, lr=lr, fused=device in FUSED, **options)
        return optimizer


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019): a step also takes lr x weight_decay of the weights.

    Under Algorithm 1 the lr is that of the group in the stage: inactive groups decay at gamma times the rate. See
    `Adam` for the arguments.
    """

    kind = "AdamW"

    def __init__(self, betas: Sequence[float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.01) -> None:
        super().__init__(betas, eps, weight_decay)

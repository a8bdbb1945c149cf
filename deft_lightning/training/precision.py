"""Which precision `trainer.precision=auto` is on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from deft_lightning.training.config import AUTO_PRECISION

BF16, FP32 = "bf16-mixed", "32-true"


def resolve(precision: str | int, accelerator: str = "auto", recorded: str | None = None) -> str:
    """The precision that Lightning is given: `precision` itself, unless it is "auto".

    Then it is that of the run's earlier sessions, `recorded`, or else bf16-mixed where the device multiplies bf16
    numbers in hardware, and 32-true elsewhere. A run keeps its precision when it is resumed on another machine.
    """
    if precision != AUTO_PRECISION:
        return str(precision)
    return recorded or (BF16 if has_bf16(accelerator) else FP32)


def has_bf16(accelerator: str = "auto") -> bool:
    """Whether the device of a Lightning accelerator has units for bf16 products: AMX or AVX-512 BF16, or CUDA 8.0."""
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.cuda.get_device_capability()[0] >= 8
    if accelerator in ("auto", "gpu", "mps") and torch.backends.mps.is_available():
        return False
    # Older versions of torch cannot say.
    capabilities: Mapping[str, Any] = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16"))

"""The precisions that Lightning does not know: `trainer.precision=auto`, a matter of the machine, and tf32."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pytorch_lightning.plugins import Precision

from deft_lightning.common.errors import DeftError
from deft_lightning.training.config import AUTO_PRECISION

BF16, FP32, TF32 = "bf16-mixed", "32-true", "tf32"
KNOWN = ("32-true", "32", "bf16-mixed", "16-mixed", TF32, AUTO_PRECISION)
"""What a run takes: everything between and after the networks is in single precision."""


class TF32Precision(Precision):
    """Single precision whose products are taken in TensorFloat-32 during a fit, on NVIDIA GPUs since Ampere.

    PyTorch takes convolutions in it by default, and leaves matrix products in single precision.
    """

    precision = TF32  # type: ignore[assignment]  # a name that Lightning does not have

    def __init__(self) -> None:
        self._before: str | None = None

    def connect(self, model: Any, optimizers: Any, lr_schedulers: Any) -> tuple[Any, Any, Any]:
        """Switch it on."""
        self._before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high")
        return super().connect(model, optimizers, lr_schedulers)

    def teardown(self) -> None:
        """Restore the previous setting."""
        if self._before is not None:
            torch.set_float32_matmul_precision(self._before)
            self._before = None


def options(precision: str, plugins: Any = None) -> dict[str, Any]:
    """The arguments of `pl.Trainer` for a resolved precision, beside the `plugins` of the configuration."""
    if precision != TF32:
        return {"precision": precision}
    return {"precision": None, "plugins": [*(plugins or []), TF32Precision()]}


def resolve(precision: str | int, accelerator: str = "auto", recorded: str | None = None) -> str:
    """The precision that Lightning is given: `precision` itself, unless it is "auto".

    Then it is that of the run's earlier sessions, `recorded`, or else bf16-mixed where the device multiplies bf16
    numbers in hardware, and 32-true elsewhere. A run keeps its precision when it is resumed on another machine.

    Raises `DeftError` for tf32 where there is no device that has it, and for true half and double precision.
    """
    if str(precision) not in KNOWN:
        raise DeftError(f"trainer.precision is {precision}: give one of {', '.join(KNOWN)}.")
    if precision == TF32 and not (accelerator != "cpu" and torch.cuda.is_available()):
        raise DeftError("trainer.precision is tf32, which only NVIDIA's GPUs have: use 32-true or bf16-mixed here.")
    if precision != AUTO_PRECISION:
        return str(precision)
    return recorded or (BF16 if has_bf16(accelerator) else FP32)


def check_clipping(precision: str, clip: float | None) -> None:
    """Raise `DeftError` for gradients that are clipped under mixed precision, which a fused Adam cannot do."""
    if clip and precision.endswith("mixed"):
        raise DeftError(
            f"trainer.gradient_clip_val is {clip} under {precision}: gradients are clipped in single precision only, "
            "set trainer.precision=32-true."
        )


def has_bf16(accelerator: str = "auto") -> bool:
    """Whether the device of a Lightning accelerator has units for bf16 products: AMX or AVX-512 BF16, or CUDA 8.0."""
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.cuda.get_device_capability()[0] >= 8
    if accelerator in ("auto", "gpu", "mps") and torch.backends.mps.is_available():
        return False
    # Older versions of torch cannot say.
    capabilities: Mapping[str, Any] = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16"))

"""The device of a command, as its option --device names it."""

from __future__ import annotations

import torch

from deft_lightning.common.errors import DeftError


def choose(device: str | None) -> str:
    """`device`, or by default cuda where there is one, else cpu. Raises `DeftError` for one that is not here."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError) as error:  # unknown, absent here, or without values
        raise DeftError(f"--device is {device}: use cpu, or a device that torch finds here.") from error
    return device

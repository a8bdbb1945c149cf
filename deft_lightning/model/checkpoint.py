"""Checkpoint files of this package: how they are marked and read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from deft_lightning.common.errors import DeftError

CHECKPOINT_KEY = "deft_lightning"
"""Marks a checkpoint as one of this package."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint of this package, tensors on the CPU. Raises `DeftError` when it is damaged or foreign."""
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise DeftError(f"there is no checkpoint {path}: give the folder of a run that has saved one.") from error
    except Exception as error:  # torch raises many types for a file that is cut short or not its own
        raise DeftError(
            f"the checkpoint {path} is damaged or not a checkpoint ({type(error).__name__}): "
            "take another, such as stage_1.ckpt beside it."
        ) from error
    if not isinstance(checkpoint, dict) or CHECKPOINT_KEY not in checkpoint:
        raise DeftError(f"the checkpoint {path} was not written by deft_lightning: give one that was.")
    return checkpoint

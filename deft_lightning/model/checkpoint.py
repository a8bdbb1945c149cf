"""Checkpoint files: the key that marks those of this package, and how they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from deft_lightning.common.errors import DeftError

CHECKPOINT_KEY = "deft_lightning"
"""Marks a checkpoint as one of this package."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of this package, with its tensors on the CPU.

    Raises:
        DeftError: if the file is missing, damaged, or was not written by this package.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise DeftError(
            f"there is no checkpoint {path}: give the file, or the folder, of a run that saved one."
        ) from error
    except Exception as error:  # torch raises many types for files that are cut short or were not written by it
        raise DeftError(
            f"the checkpoint {path} is damaged or not a checkpoint ({type(error).__name__}): "
            "take another, such as stage_1.ckpt beside it."
        ) from error
    if not isinstance(checkpoint, dict) or CHECKPOINT_KEY not in checkpoint:
        raise DeftError(f"the checkpoint {path} was not written by deft_lightning: use one from a run of this package.")
    return checkpoint

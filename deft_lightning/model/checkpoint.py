"""Checkpoint files: what they hold of a model beside its weights, and how they are read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from deft_lightning.common.errors import DeftError
from deft_lightning.model import description
from deft_lightning.model.schedules.observed import ObservedTimeline

if TYPE_CHECKING:
    from deft_lightning.model.module import DEFT

Model = TypeVar("Model", bound="DEFT")

CHECKPOINT_KEY = "deft_lightning"
"""Marks a checkpoint as one of this package; holds the description of its model."""
SCHEMA_VERSION = 1
"""Of that description."""


def describe_model(model: DEFT) -> dict[str, Any]:
    """All that `model_of` needs beside the weights, as plain values."""
    parts = {name: getattr(model, name) for name in description.PARTS}
    options = {"lr": model.lr, "seed": model.seed, "steps_per_epoch": model.steps_per_epoch}
    timeline = model.timeline
    return {
        "schema_version": SCHEMA_VERSION,
        "observed": timeline.state if isinstance(timeline, ObservedTimeline) else None,
        "parts": description.describe_all(parts | {"schedule": model.schedule.without_files()}),
        "options": options | {"image_shape": list(model.image_shape)},
        "dataset_size": model.objective.dataset_size,
    }


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


def require_description(checkpoint: dict[str, Any], path: Path) -> dict[str, Any]:
    """The description of the model in `checkpoint`; raises `DeftError` for one of another version of the package."""
    described = checkpoint[CHECKPOINT_KEY]
    version = described.get("schema_version") if isinstance(described, dict) else None
    if version != SCHEMA_VERSION:
        raise DeftError(
            f"the checkpoint {path} describes its model in version {version} and this package reads version "
            f"{SCHEMA_VERSION}: load it with the version of deft_lightning that wrote it."
        )
    return described


def load_weights(module: nn.Module, path: Path) -> None:
    """Load the weights of the checkpoint at `path`; raises `DeftError` when it is damaged or of another model."""
    load_state(module, read_checkpoint(path), path)


def load_state(module: nn.Module, checkpoint: dict[str, Any], path: Path) -> None:
    """Load the weights in `checkpoint`, which was read from `path`; raises `DeftError` when it is of another model."""
    try:
        module.load_state_dict(checkpoint["state_dict"])
    except (KeyError, RuntimeError) as error:
        raise DeftError(
            f"the checkpoint {path} is of another model than the configuration: give one with the same groups, "
            "networks, objective, likelihood and image shape."
        ) from error


def model_of(kind: type[Model], path: Path, trust: bool, parts: dict[str, Any]) -> tuple[Model, int]:
    """The model in the checkpoint at `path`, and the steps that it was trained; see `DEFT.load_from_checkpoint`."""
    checkpoint = read_checkpoint(path)
    saved = require_description(checkpoint, path)
    described = {name: part for name, part in saved["parts"].items() if name not in parts}
    built = {**description.build_all(described, trust), **parts}
    options = saved["options"] | {"image_shape": tuple(saved["options"]["image_shape"])}
    model = kind(**{**options, **built})
    load_state(model, checkpoint, path)
    model.objective.dataset_size = saved["dataset_size"]
    observed = saved.get("observed")  # missing in older files
    if observed is not None and "schedule" not in parts and isinstance(model.timeline, ObservedTimeline):
        model.timeline.state = observed
    return model, int(checkpoint["global_step"])

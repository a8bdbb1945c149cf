"""Images that are kept out of training: which ones, as a function of the seed."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from deft_lightning.common import checks
from deft_lightning.common.errors import DeftError
from deft_lightning.common.seeding import Stream, generator

LEAST = 2
"""Images that are held out at least: scores compare images with each other."""


class Split(NamedTuple):
    """Indices of the images to train on and of those held out, int64, ascending; together all images, each once."""

    training: Tensor
    held_out: Tensor


def split(count: int, share: float, seed: int) -> Split | None:
    """Hold out the share `share` of `count` images, drawn uniformly by `seed`; None for a share of 0.

    Raises `DeftError` for a share out of range, or one that leaves no two images to hold out or none to train on.
    """
    if not checks.share("data.held_out", share):
        return None
    held = round(share * count)
    if held < LEAST:
        raise DeftError(f"data.held_out is {share:g}, which is {held} of {count:,} images: hold out at least {LEAST}.")
    if held == count:
        raise DeftError(f"data.held_out is {share:g}, which is all of {count:,} images: leave some to train on.")
    order = torch.randperm(count, generator=generator(seed, Stream.HELD_OUT))
    return Split(order[held:].sort().values, order[:held].sort().values)

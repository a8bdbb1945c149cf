"""The batch of all processes of a run, for estimators over the batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor
from torch.distributed.nn.functional import all_gather

_alone: ContextVar[bool] = ContextVar("alone", default=False)


@contextmanager
def only_this_process() -> Iterator[None]:
    """In the block `global_batch` returns its argument: the other processes are not there."""
    token = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(token)


def global_batch(values: Tensor) -> Tensor:
    """`values` [B, ...] of all processes, [world size * B, ...], with gradients; in a single process `values`.

    An estimator over the batch then sees the global batch. The average of its gradients over the processes, which DDP
    takes, equals the gradient of one process with the same global batch.
    """
    # In this order: torch.compile, which takes the first for a constant, cannot trace the second.
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()) or _alone.get():
        return values
    return torch.cat(all_gather(values.contiguous()))

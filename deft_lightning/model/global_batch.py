"""The batch of all processes of a run, for estimators over the batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributed.nn.functional import all_gather


def global_batch(values: Tensor) -> Tensor:
    """`values` [B, ...] of all processes, [world size * B, ...], with gradients; in a single process `values`.

    An estimator over the batch then sees the global batch. The average of its gradients over the processes, which DDP
    takes, equals the gradient of one process with the same global batch.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return values
    return torch.cat(all_gather(values.contiguous()))

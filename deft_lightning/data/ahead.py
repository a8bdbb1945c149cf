"""Batches of images on the host, gathered one ahead in a thread while the device trains on the last."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from deft_lightning.data.base import ByteImages


class Ahead:
    """Gathers the bytes of a batch, and meanwhile those of the next; the result is the same as without."""

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None
        self._next: tuple[ByteImages, Tensor, Future[Tensor]] | None = None

    def gather(self, dataset: ByteImages, indices: Tensor, following: Tensor | None) -> Tensor:
        """`dataset.gather(indices)`; begins with `following`, the indices of the batch after it, if there are any.

        Both int64 [B], in host memory. Raises as `dataset.gather` does.
        """
        begun, self._next = self._next, None
        waiting = begun is not None and begun[0] is dataset and torch.equal(begun[1], indices)
        pixels = begun[2].result() if waiting and begun is not None else dataset.gather(indices)
        if following is not None:
            self._thread = self._thread or ThreadPoolExecutor(1, "batches")
            self._next = dataset, following, self._thread.submit(dataset.gather, following)
        return pixels

    def close(self) -> None:
        """End the thread; the next `gather` starts another."""
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)
        self._thread = self._next = None

    def __getstate__(self) -> dict[str, Any]:
        """Threads cannot be copied."""
        return {"_thread": None, "_next": None}

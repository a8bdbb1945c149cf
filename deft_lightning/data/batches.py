"""Batches of indices in an order that is a function of (seed, epoch), and that survives an interruption."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from deft_lightning.common.errors import DeftError
from deft_lightning.common.seeding import Stream, generator


class Batch(NamedTuple):
    """A batch of all processes together: which images, which batch of the whole run it is, and whose part of it.

    `indices` int64 [B]; `step` = epoch x batches per epoch + position in the epoch, counted from 0; process `rank` of
    `world_size` trains on the images of its `part`.
    """

    indices: Tensor
    step: int
    rank: int = 0
    world_size: int = 1

    @property
    def part(self) -> slice:
        """Where in the batch this process's contiguous part is."""
        share = len(self.indices) // self.world_size
        return slice(self.rank * share, (self.rank + 1) * share)


class BatchLoader:
    """Endless epochs over `size` images in batches of `batch_size`, each process taking its own slice.

    An epoch visits the images in a permutation that is a function of (seed, epoch) and leaves out the last,
    short batch. `batch_size` counts all processes together; process `rank` of `world_size` takes its part of every
    batch, so that together they see each image once.

    The loader is one stream of batches: every iteration goes on where the last one stopped and ends with the
    epoch. Nothing depends on when iterators are made, which Lightning does at different moments for a fresh
    fit, one resumed inside an epoch and one resumed at its end. Lightning fetches nothing ahead from a loader
    that has a length, so a batch counts as delivered when it is handed out.

    Raises DeftError when the batch is larger than the data set or does not divide among the processes.
    """

    def __init__(self, size: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
        if batch_size < 1 or batch_size > size:
            raise DeftError(f"a batch of {batch_size} cannot be drawn from {size} images")
        if batch_size % world_size:
            raise DeftError(f"a batch of {batch_size} does not divide among {world_size} processes")
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self.rank, self.world_size = rank, world_size
        self._step = 0  # batches delivered, all epochs together
        self._order: tuple[int, Tensor] | None = None

    def __len__(self) -> int:
        return self.size // self.batch_size

    def __iter__(self) -> Iterator[Batch]:
        epoch = self._step // len(self)  # a generator: read when the first batch is asked for
        while self._step // len(self) == epoch:
            batch = Batch(self._indices(*divmod(self._step, len(self))), self._step, self.rank, self.world_size)
            self._step += 1
            yield batch

    def _indices(self, epoch: int, position: int) -> Tensor:
        if self._order is None or self._order[0] != epoch:
            random = generator(self.seed, Stream.EPOCH_ORDER, epoch)
            self._order = epoch, torch.randperm(self.size, generator=random)
        return self._order[1][position * self.batch_size :][: self.batch_size]

    def set_epoch(self, epoch: int) -> None:
        """Begin the next iteration at the first batch of `epoch`."""
        self._step = epoch * len(self)

    def state_dict(self) -> dict[str, int]:
        """Where the loader is, the same for every process, and what that position depends on."""
        return {
            "step": self._step,
            "size": self.size,
            "batch_size": self.batch_size,
            "seed": self.seed,
        }

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where the loader was that gave `state`.

        Raises DeftError when that loader had another data size, batch size or seed.
        """
        for key, here in (("size", self.size), ("batch_size", self.batch_size), ("seed", self.seed)):
            if state.get(key) != here:
                raise DeftError(f"the checkpoint's data order has {key} {state.get(key)}, but this run has {here}")
        self._step = state["step"]

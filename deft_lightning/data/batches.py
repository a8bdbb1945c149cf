"""Batches of image indices in an order that is a function of (seed, epoch) and can be resumed at any step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from deft_lightning.common.errors import DeftError
from deft_lightning.common.seeding import Stream, generator


class Batch(NamedTuple):
    """A global batch: image indices, global step, and this process's slice.

    `indices` int64 [B] of all processes together; `step` = epoch x batches per epoch + position in the epoch, from 0;
    process `rank` of `world_size` trains on the images in `part`. `pixels` are those images, [B / world_size, C, H, W],
    where workers have decoded them already.
    """

    indices: Tensor
    step: int
    rank: int = 0
    world_size: int = 1
    pixels: Tensor | None = None

    @property
    def part(self) -> slice:
        """The contiguous slice of the batch that this process trains on."""
        share = len(self.indices) // self.world_size
        return slice(self.rank * share, (self.rank + 1) * share)


class BatchLoader:
    """Endless epochs over `size` images in global batches of `batch_size`.

    `images`, int64 [size], are their indices in the data set; all from 0 up by default. An epoch visits the images in a
    permutation that is a function of (seed, epoch); the last, incomplete batch is left out. `batch_size` counts all
    processes together, and process `rank` of `world_size` takes its slice of every batch.

    The loader is one stream of batches: every iteration starts where the last one stopped and ends with the epoch. So
    nothing depends on when iterators are made, which Lightning does at different moments for a fresh fit, a fit
    resumed inside an epoch and one resumed at its end. Lightning prefetches nothing from a loader that has a length,
    so a batch counts as delivered when it is handed out.

    The indices are on `device`, where the order of an epoch is moved as a whole, so that no step waits for a copy.

    Raises `DeftError` when the batch size is out of range or does not divide among the processes.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        images: Tensor | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if not 1 <= batch_size <= size:
            raise DeftError(f"batch_size is {batch_size}: give a whole number from 1 to {size}, the number of images.")
        if batch_size % world_size:
            raise DeftError(f"batch_size is {batch_size}: give a multiple of {world_size}, the number of processes.")
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self.rank, self.world_size, self.device = rank, world_size, device
        self._images = images
        self._step = 0  # batches delivered, all epochs together
        self._order: tuple[int, Tensor] | None = None  # an epoch and its permutation of the images

    def __len__(self) -> int:
        return self.size // self.batch_size

    def __iter__(self) -> Iterator[Batch]:
        epoch = self._step // len(self)  # a generator: this line runs when the first batch is asked for
        while self._step // len(self) == epoch:
            batch = self.batch(self._step)
            self._step += 1
            yield batch

    def upcoming(self) -> Tensor:
        """Indices, int64 [batch_size], of the next batch to be delivered."""
        return self._indices(*divmod(self._step, len(self)))

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        return Batch(self._indices(*divmod(step, len(self))), step, self.rank, self.world_size)

    def _indices(self, epoch: int, position: int) -> Tensor:
        if self._order is None or self._order[0] != epoch:
            random = generator(self.seed, Stream.EPOCH_ORDER, epoch)  # on the host: the same order on every device
            order = torch.randperm(self.size, generator=random)
            self._order = epoch, (order if self._images is None else self._images[order]).to(self.device)
        return self._order[1][position * self.batch_size :][: self.batch_size]

    def set_epoch(self, epoch: int) -> None:
        """Start the next iteration at the first batch of `epoch`."""
        self._step = epoch * len(self)

    def state_dict(self) -> dict[str, int]:
        """The position, which is the same in every process, and the settings that it depends on."""
        return {
            "step": self._step,
            "size": self.size,
            "batch_size": self.batch_size,
            "seed": self.seed,
        }

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue at the position in `state`.

        Raises `DeftError` when the state is of another number of images, batch size or seed.
        """
        for name, key, value in (
            ("the number of images", "size", self.size),
            ("batch_size", "batch_size", self.batch_size),
            ("seed", "seed", self.seed),
        ):
            if state.get(key) != value:
                raise DeftError(
                    f"{name} is {value}, but the checkpoint's data order has {key} {state.get(key)}: give the same "
                    "value, or begin from fresh weights."
                )
        self._step = state["step"]

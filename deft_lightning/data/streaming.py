"""Images that are decoded when they are asked for, one item at a time: the same whichever process decodes them.

What an item draws at random is a function of its seed, and the seed one of (run, step, place in the batch). So neither
the number of workers nor an interruption changes a batch.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from deft_lightning.common.errors import DeftError
from deft_lightning.common.seeding import Stream, generator
from deft_lightning.common.signals import stop_signals
from deft_lightning.data.batches import Batch, BatchLoader

Key = tuple[int, int]
"""Index of an image, and the seed of what its item draws at random."""
MOST_WORKERS = 4
"""Workers where their number is not given; with fewer cores, one less than these."""


class Item(NamedTuple):
    """One image, [C, H, W] uint8 or float32 in [0, 1], and its factor values, or None without labels."""

    pixels: Tensor
    factors: tuple[int, ...] | None = None


class Decoded(NamedTuple):
    """Images, [B, C, H, W] uint8 or float32 in [0, 1], and factor values, int64 [B, K], or None without labels."""

    pixels: Tensor
    factors: Tensor | None


class Reader(Protocol):
    """Reads one item; raises `DeftError` when it cannot. Workers get a copy of it."""

    def __call__(self, index: int, seed: int) -> Item: ...


def default_workers() -> int:
    """Processes that decode images, unless their number is given."""
    return max(1, min(MOST_WORKERS, (os.cpu_count() or 1) - 1))


def keys(indices: Tensor, random: torch.Generator) -> list[Key]:
    """The keys of the images at `indices` [B]; their seeds are drawn from `random`."""
    seeds = torch.randint(2**63 - 1, (len(indices),), generator=random, device=random.device)
    return list(zip(indices.tolist(), seeds.tolist(), strict=True))


def decode(reader: Reader, wanted: Sequence[Key]) -> Decoded:
    """The items of `wanted`, in order, read in this process."""
    items = [reader(*key) for key in wanted]
    labels = [item.factors for item in items if item.factors is not None]
    return Decoded(torch.stack([item.pixels for item in items]), torch.tensor(labels) if labels else None)


def stream(reader: Reader, batches: Iterable[Sequence[Key]], workers: int) -> Iterator[Decoded]:
    """Decode `batches` in order, ahead of time by `workers` processes; with 0 in this process.

    Raises `DeftError` as `reader` does.
    """
    loader = DataLoader(
        _Batches(reader),
        batch_sampler=batches,  # type: ignore[arg-type]  # any iterable of lists
        num_workers=workers,
        collate_fn=_unchanged,
        worker_init_fn=_ignore_signals,
        generator=torch.Generator(),  # else a number is drawn from torch's own
    )
    for decoded in loader:
        if isinstance(decoded, str):
            raise DeftError(decoded)
        yield decoded


class StreamLoader(BatchLoader):
    """The batches of `BatchLoader`, given by the other arguments, with the pixels of this process's part.

    Workers decode ahead, also over the end of an epoch; the position counts the batches handed out alone.
    """

    def __init__(self, reader: Reader, workers: int, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._reader, self._workers = reader, workers
        self._ahead: Iterator[Batch] | None = None
        self._ahead_step = 0  # of its next batch

    def __iter__(self) -> Iterator[Batch]:
        epoch = self._step // len(self)
        while self._step // len(self) == epoch:
            if self._ahead is None or self._ahead_step != self._step:
                self._ahead = self._decoded(self._step)
            batch = next(self._ahead)
            self._step += 1
            self._ahead_step = self._step
            yield batch

    def close(self) -> None:
        """End the workers."""
        self._ahead = None

    def _decoded(self, first: int) -> Iterator[Batch]:
        planned: deque[Batch] = deque()

        def plan() -> Iterator[list[Key]]:
            for step in count(first):
                batch = self._batch(step)
                planned.append(batch)
                yield keys(batch.indices, generator(self.seed, Stream.NUISANCE, step, 0))[batch.part]

        for decoded in stream(self._reader, plan(), self._workers):
            yield planned.popleft()._replace(pixels=decoded.pixels)


class _Batches(Dataset):
    """What DataLoader's workers call: a whole batch of keys in, decoded images or the sentence of an error out.

    DataLoader would make a sentence of an exception into a traceback.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def __getitem__(self, key: Key) -> Any:
        raise NotImplementedError("DataLoader calls __getitems__")

    def __getitems__(self, wanted: Sequence[Key]) -> Decoded | str:
        try:
            return decode(self._reader, wanted)
        except DeftError as error:
            return str(error)


def _unchanged(decoded: Any) -> Any:
    return decoded


def _ignore_signals(worker: int) -> None:
    """A signal reaches the workers too, and the run still takes a step and a checkpoint: it ends them itself."""
    for number in stop_signals():
        signal.signal(number, signal.SIG_IGN)

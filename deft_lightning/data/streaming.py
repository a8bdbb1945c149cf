"""Images that are decoded when they are asked for, one item at a time: the same whichever process decodes them.

What an item draws at random is a function of its seed, and the seed one of (run, step, place in the batch). So neither
the number of workers nor an interruption changes a batch.
"""

from __future__ import annotations

import atexit
import os
import pickle
import signal
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import Any, NamedTuple, Protocol
from weakref import WeakSet, finalize

import torch
from joblib import cpu_count
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from deft_lightning.common.errors import DeftError, first_line
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
    """Processes that decode images, unless their number is given; a job of a sweep has its share of the cores."""
    return max(1, min(MOST_WORKERS, cpu_count() - 1))


def keys(indices: Tensor, random: torch.Generator) -> list[Key]:
    """The keys of the images at `indices` [B]; their seeds are drawn from `random`."""
    seeds = torch.randint(2**63 - 1, (len(indices),), generator=random, device=random.device)
    return list(zip(indices.tolist(), seeds.tolist(), strict=True))


def decode(reader: Reader, wanted: Sequence[Key]) -> Decoded:
    """The items of `wanted`, in order, read in this process."""
    items = [reader(*key) for key in wanted]
    labels = [item.factors for item in items if item.factors is not None]
    return Decoded(torch.stack([item.pixels for item in items]), torch.tensor(labels) if labels else None)


class DecodedStream(Iterator[Decoded]):
    """`batches` decoded in order, ahead of time by `workers` processes; with 0 in this process.

    Raises `DeftError` as `reader` does, where `reader` cannot be sent to the workers, and where one of them dies.

    The workers end with `close` and with the object, which `batches` must not refer to. They ignore the SIGTERM with
    which torch and multiprocessing end processes that do not answer, and do not answer once the garbage collector has
    closed their queues. So what it collects is this object, and not the iterator.
    """

    def __init__(self, reader: Reader, batches: Iterable[Sequence[Key]], workers: int) -> None:
        self._decoded = _decoded(reader, batches, workers)
        self._end = finalize(self, _close, self._decoded, os.getpid())
        _open.add(self)

    def __next__(self) -> Decoded:
        return next(self._decoded)

    def close(self) -> None:
        """End the workers; there is no next batch then."""
        self._end()


_open: WeakSet[DecodedStream] = WeakSet()


@atexit.register  # before torch and multiprocessing act, which have registered earlier
def close_all() -> None:
    """End the workers of all streams."""
    for stream in list(_open):
        stream.close()


def _close(decoded: Generator[Decoded], process: int) -> None:
    if os.getpid() == process:  # and not in a worker, which has a copy of all streams
        decoded.close()


@contextmanager
def deaths_told() -> Iterator[None]:
    """Raise `DeftError` where a worker dies: torch raises an error wherever this process then is."""
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise _death(error) from error


def _death(error: Exception) -> DeftError:
    return DeftError(
        f"a process that decodes images has died ({first_line(error)}): set a smaller data.workers if memory "
        "ran out, which in a container may be that of /dev/shm."
    )


def _decoded(reader: Reader, batches: Iterable[Sequence[Key]], workers: int) -> Generator[Decoded]:
    loader = DataLoader(
        _Batches(reader),
        batch_sampler=batches,  # type: ignore[arg-type]  # any iterable of lists
        num_workers=workers,
        collate_fn=_unchanged,
        worker_init_fn=partial(_ignore_signals, stop_signals()),
        generator=torch.Generator(),  # else a number is drawn from torch's own
    )
    try:
        with deaths_told():
            for decoded in _started(loader):
                if isinstance(decoded, str):
                    raise DeftError(decoded)
                yield decoded
    except (ConnectionError, EOFError, FileNotFoundError) as error:
        if not workers or "DataLoader worker process" in str(error):  # raised by `reader`
            raise
        raise _death(error) from error  # before its batch was fetched


def _started(loader: DataLoader) -> Iterator[Any]:
    """An iterator over `loader`, whose workers have got a copy of the data set."""
    try:
        return iter(loader)
    except (pickle.PicklingError, AttributeError, TypeError) as error:  # what pickle raises has no common type
        raise DeftError(
            f"the data cannot be sent to the processes that decode images ({error}): use functions of a module in its "
            "place, not a lambda or a function inside another, or set data.workers=0."
        ) from error


class StreamLoader(BatchLoader):
    """The batches of `BatchLoader`, given by the other arguments, with the pixels of this process's part.

    Workers decode ahead, also over the end of an epoch; the position counts the batches handed out alone.
    """

    def __init__(self, reader: Reader, workers: int, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._reader, self._workers = reader, workers
        self._order_ahead = BatchLoader(*arguments, **more)  # a stream must not refer to what holds it
        self._planned: deque[Batch] = deque()
        self._stream: DecodedStream | None = None
        self._stream_step = 0  # of its next batch

    def __iter__(self) -> Iterator[Batch]:
        epoch = self._step // len(self)
        while self._step // len(self) == epoch:
            if self._stream is None or self._stream_step != self._step:
                self.close()
                self._planned = deque()
                plan = _plan(self._order_ahead, self._step, self._planned)
                self._stream = DecodedStream(self._reader, plan, self._workers)
            decoded = next(self._stream)
            self._step += 1
            self._stream_step = self._step
            yield self._planned.popleft()._replace(pixels=decoded.pixels)

    def close(self) -> None:
        """End the workers; the next batch starts others."""
        if self._stream is not None:
            self._stream.close()
        self._stream = None


def _plan(order: BatchLoader, first: int, planned: deque[Batch]) -> Iterator[list[Key]]:
    """The keys of this process's part of every batch of `order` from step `first` on; the batches go to `planned`."""
    for step in count(first):
        batch = order.batch(step)
        planned.append(batch)
        yield keys(batch.indices, generator(order.seed, Stream.NUISANCE, step, 0))[batch.part]


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


def _ignore_signals(numbers: Sequence[signal.Signals], worker: int) -> None:
    """A signal reaches the workers too, and the run still takes a step and a checkpoint: it ends them itself."""
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)

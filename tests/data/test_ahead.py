"""Images on the host are gathered one batch ahead, and those on the device need no copy for a step.

The device "meta" stands for an accelerator: what is on it has no values.
"""

from __future__ import annotations

import copy
import threading

import numpy as np
import pytest
import torch
from torch import Tensor

from deft_lightning.data import Batch, BatchLoader, FactorDataModule, FactorSpace
from deft_lightning.data.ahead import Ahead
from deft_lightning.data.base import ByteImages, MappedImages, StoredImages

COUNT, BATCH = 40, 8
PIXELS = np.random.default_rng(0).integers(0, 256, (COUNT, 64, 64, 3), np.uint8)
META = torch.device("meta")


class Seen:
    """Keeps what was gathered, and in which thread."""

    gathered: list[tuple[list[int], bool]]

    def gather(self, indices: Tensor) -> Tensor:
        in_main = threading.current_thread() is threading.main_thread()
        self.gathered.append((indices.tolist(), in_main))
        return super().gather(indices)  # type: ignore[misc]


class Mapped(Seen, MappedImages):
    name, source, shape = "mapped", "file", (3, 64, 64)
    space = FactorSpace(("a", "b"), (5, 8))

    def __init__(self) -> None:
        self._pixels, self.gathered = PIXELS, []


class Large(Seen, StoredImages):
    """Larger than what moves to a device as a whole."""

    name, source, shape = "large", "file", (3, 64, 64)
    space = FactorSpace(("a", "b"), (5, 8))
    RESIDENT = 1000

    def __init__(self) -> None:
        self._pixels, self.gathered = torch.from_numpy(PIXELS).permute(0, 3, 1, 2).contiguous(), []


class Small(Large):
    RESIDENT = 10**9


EXPECTED = torch.from_numpy(PIXELS).permute(0, 3, 1, 2).float() / 255


@pytest.mark.parametrize("kind", [Mapped, Large])
def test_the_bytes_of_an_epoch_are_those_without_a_thread(kind: type[ByteImages]) -> None:
    """Gathered for a device, two epochs long; decoded on the CPU, where they can be compared."""
    dataset = kind()
    loader, ahead = BatchLoader(COUNT, BATCH, seed=3), Ahead()
    for batch in [*loader, *loader]:
        pixels = ahead.gather(dataset, batch.indices, loader.upcoming())
        assert torch.equal(dataset.decode(pixels), EXPECTED[batch.indices])
    ahead.close()


@pytest.mark.parametrize("kind", [Mapped, Large])
def test_every_batch_but_the_first_is_gathered_in_a_thread_and_once(kind: type[Mapped]) -> None:
    data = FactorDataModule(dataset := kind(), batch_size=BATCH)
    loader = data.train_dataloader()
    assert loader.device == torch.device("cpu")
    steps = 0
    for batch in loader:
        images = data.on_after_batch_transfer(data.transfer_batch_to_device(batch, META, 0), 0)
        assert (images.device, images.shape, images.dtype) == (META, (BATCH, 3, 64, 64), torch.float32)
        steps += 1
    data.teardown("fit")
    assert len(dataset.gathered) in (steps, steps + 1)  # the thread may have been ended before the next epoch's first
    assert [in_main for _, in_main in dataset.gathered] == [True, *[False] * (len(dataset.gathered) - 1)]
    again = BatchLoader(COUNT, BATCH, seed=data.seed)
    expected = [batch.indices.tolist() for batch in [*again, *again]][: len(dataset.gathered)]
    assert [indices for indices, _ in dataset.gathered] == expected


def test_on_a_cpu_nothing_is_gathered_ahead() -> None:
    """There, a thread would take the time of the step."""
    data = FactorDataModule(dataset := Mapped(), batch_size=BATCH)
    for batch in data.train_dataloader():
        moved = data.transfer_batch_to_device(batch, torch.device("cpu"), 0)
        assert torch.equal(data.on_after_batch_transfer(moved, 0), EXPECTED[batch.indices])
    assert all(in_main for _, in_main in dataset.gathered)
    assert len(dataset.gathered) == COUNT // BATCH


def test_another_batch_than_the_one_gathered_ahead_is_gathered_now() -> None:
    """As after a resumed position, or for a batch that comes from elsewhere."""
    dataset, ahead = Mapped(), Ahead()
    ahead.gather(dataset, torch.arange(8), torch.arange(8, 16))
    assert torch.equal(dataset.decode(ahead.gather(dataset, torch.arange(3), None)), EXPECTED[:3])
    other = Mapped()
    ahead.gather(dataset, torch.arange(8), torch.arange(8, 16))
    ahead.gather(other, torch.arange(8, 16), None)
    assert other.gathered == [(list(range(8, 16)), True)]
    ahead.close()


def test_an_error_in_the_thread_is_that_of_the_batch() -> None:
    dataset, ahead = Mapped(), Ahead()
    ahead.gather(dataset, torch.arange(8), torch.tensor([COUNT]))
    with pytest.raises(IndexError):
        ahead.gather(dataset, torch.tensor([COUNT]), None)
    copy.deepcopy(ahead).close()
    ahead.close()


def test_a_part_of_a_batch_belongs_to_each_process() -> None:
    data = FactorDataModule(Large(), batch_size=BATCH)
    batch = Batch(torch.tensor([3, 1, 38, 0]), 2, rank=1, world_size=2)
    assert data.transfer_batch_to_device(batch, META, 0).shape == (2, 3, 64, 64)


@pytest.mark.parametrize(("kind", "where"), [(Large, "cpu"), (Small, "meta")])
def test_a_data_set_moves_as_a_whole_up_to_a_size(kind: type[Large], where: str) -> None:
    dataset = kind().to("meta")
    assert dataset._pixels.device.type == where
    assert dataset.on_host == (where == "cpu")
    assert dataset.images(torch.arange(3), torch.Generator()).device == META


def test_the_indices_of_a_data_set_on_the_device_are_there_too() -> None:
    """A step takes a view of the order of the epoch."""
    on_device = BatchLoader(COUNT, BATCH, seed=3, device=META)
    batches = list(on_device)
    assert len(batches) == COUNT // BATCH
    assert all(batch.indices.device == META for batch in batches)
    assert len({batch.indices._base.data_ptr() for batch in batches if batch.indices._base is not None}) == 1

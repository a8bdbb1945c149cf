from __future__ import annotations

from itertools import islice

import pytest
import torch

from deft_lightning.common.errors import DeftError
from deft_lightning.data import Batch, BatchLoader

SIZE, BATCH = 103, 8  # 12 batches an epoch, 7 images left out


def loader(seed: int = 5, rank: int = 0, world_size: int = 1) -> BatchLoader:
    return BatchLoader(SIZE, BATCH, seed, rank, world_size)


def epochs(source: BatchLoader, count: int) -> list[list[Batch]]:
    return [list(source) for _ in range(count)]


def equal(a: list[Batch], b: list[Batch]) -> bool:
    return len(a) == len(b) and all(
        x.step == y.step and torch.equal(x.indices, y.indices) for x, y in zip(a, b, strict=True)
    )


def test_an_epoch_is_whole_batches_of_distinct_images():
    (epoch,) = epochs(loader(), 1)
    seen = torch.cat([batch.indices for batch in epoch])
    assert len(loader()) == len(epoch) == 12
    assert all(batch.indices.shape == (BATCH,) and batch.indices.dtype == torch.int64 for batch in epoch)
    assert len(seen.unique()) == 96
    assert (seen.min() >= 0) & (seen.max() < SIZE)


def test_steps_count_through_all_epochs():
    assert [batch.step for epoch in epochs(loader(), 3) for batch in epoch] == list(range(36))


def test_the_order_is_a_function_of_seed_and_epoch():
    first, second = epochs(loader(), 2)
    assert equal(first, list(loader()))
    assert not torch.equal(first[0].indices, second[0].indices)
    assert not torch.equal(first[0].indices, next(iter(loader(seed=6))).indices)
    jumped = loader()
    jumped.set_epoch(1)
    assert equal(second, list(jumped))


def test_every_image_is_left_out_in_some_epoch():
    source = loader()
    left_out = [set(range(SIZE)) - set(torch.cat([b.indices for b in source]).tolist()) for _ in range(150)]
    assert set.union(*left_out) == set(range(SIZE))


@pytest.mark.parametrize("world_size", [2, 4])
def test_the_processes_share_the_batches_of_a_single_one(world_size):
    single = list(loader())
    shares = [list(loader(rank=rank, world_size=world_size)) for rank in range(world_size)]
    for batch, *parts in zip(single, *shares, strict=True):
        assert torch.equal(batch.indices, torch.cat([part.indices[part.part] for part in parts]))
        assert {part.step for part in parts} == {batch.step}


@pytest.mark.parametrize("delivered", range(0, 26))
def test_a_restored_loader_continues_as_if_never_interrupted(delivered):
    whole = [batch for epoch in epochs(loader(), 3) for batch in epoch]
    interrupted = loader()
    before: list[Batch] = []
    while len(before) < delivered:
        before += islice(interrupted, delivered - len(before))
    restored = loader()
    restored.load_state_dict(interrupted.state_dict())
    rest = list(restored)
    assert len(rest) == 12 - delivered % 12  # exactly the rest of that epoch
    while len(rest) + delivered < 36:
        rest += list(restored)
    assert equal(whole, before + rest)


def test_iterators_that_are_never_used_change_nothing():
    source = loader()
    iter(source)
    source.load_state_dict({**source.state_dict(), "step": 5})
    iter(source)
    assert next(iter(source)).step == 5


def test_an_iteration_starts_where_the_last_one_stopped_and_ends_with_the_epoch():
    source = loader()
    steps = [[batch.step for batch in islice(source, 7)] for _ in range(4)]
    assert steps == [list(range(7)), list(range(7, 12)), list(range(12, 19)), list(range(19, 24))]


def test_the_state_is_plain_numbers():
    assert set(map(type, loader().state_dict().values())) == {int}


@pytest.mark.parametrize(
    ("key", "other"),
    [
        ("size", BatchLoader(104, BATCH, 5)),
        ("batch_size", BatchLoader(SIZE, 4, 5)),
        ("seed", BatchLoader(SIZE, BATCH, 6)),
    ],
)
def test_the_state_of_another_order_is_refused(key, other):
    with pytest.raises(DeftError, match=rf"data order has {key} {getattr(other, key)}: give the same value"):
        loader().load_state_dict(other.state_dict())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((10, 11, 0), "batch_size is 11: give a whole number from 1 to 10, the number of images."),
        ((10, 0, 0), "batch_size is 0: give a whole number from 1 to 10"),
        ((10, 9, 0, 0, 2), "batch_size is 9: give a multiple of 2, the number of processes."),
    ],
)
def test_impossible_batch_sizes_are_refused(arguments, message):
    with pytest.raises(DeftError, match=message):
        BatchLoader(*arguments)

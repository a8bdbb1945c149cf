"""Seeds of different purposes, positions and runs have nothing to do with each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deft_lightning.common.seeding import Stream, derive_seed, generator


def test_a_seed_is_a_function_of_its_arguments_and_fits_torch() -> None:
    seeds = [derive_seed(7, stream, 3, 1) for stream in Stream]
    assert seeds == [derive_seed(7, stream, 3, 1) for stream in Stream]
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_no_two_purposes_positions_or_runs_share_a_seed() -> None:
    """Nor does a position that ends in 0 share one with the position without it."""
    positions = [(), (0,), (1,), (2,), (0, 0), (0, 1), (1, 0), (1, 1), (0, 0, 0), (300_000,), (300_000, 0)]
    arguments = [(seed, stream, *p) for seed in (0, 1, 2, 2**32, 2**32 + 1) for stream in Stream for p in positions]
    assert len({derive_seed(*a) for a in arguments}) == len(arguments)


def test_one_run_at_many_steps_never_repeats_itself() -> None:
    seeds = {derive_seed(0, stream, step) for stream in Stream for step in range(2000)}
    assert len(seeds) == len(Stream) * 2000


@pytest.mark.parametrize("other", [(1, Stream.NUISANCE, 0), (0, Stream.POSTERIOR, 0), (0, Stream.NUISANCE, 1)])
def test_sequences_of_neighbours_are_uncorrelated(other: tuple) -> None:
    ours = torch.randn(20_000, generator=generator(0, Stream.NUISANCE, 0)).numpy()
    theirs = torch.randn(20_000, generator=generator(*other)).numpy()
    assert abs(np.corrcoef(ours, theirs)[0, 1]) < 0.035  # five standard errors
    assert not np.array_equal(ours, theirs)


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    torch.rand(5, generator=generator(0, Stream.EPOCH_ORDER, 1))
    assert torch.equal(torch.get_rng_state(), before)

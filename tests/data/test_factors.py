from __future__ import annotations

import pytest
import torch

from deft_lightning.common.errors import DeftError
from deft_lightning.data import FactorSpace
from deft_lightning.data.dsprites.renderer import SPACE

NORB = FactorSpace(("category", "instance", "light"), (3, 10, 4), nuisance=("instance",))


def test_indices_and_factors_are_inverse_on_a_full_grid():
    space = FactorSpace(("a", "b", "c"), (3, 4, 5))
    every = torch.arange(len(space))
    assert len(space) == 60
    assert torch.equal(space.indices(space.factors(every)), every)
    assert torch.equal(space.factors(every), torch.cartesian_prod(*map(torch.arange, space.sizes)))


def test_dsprites_counts_with_the_last_factor_fastest():
    # shape, scale, orientation, posX, posY: strides are products of the sizes to the right.
    index = torch.tensor([245760 + 3 * 40960 + 7 * 1024 + 5 * 32 + 9])
    assert SPACE.factors(index).tolist() == [[1, 3, 7, 5, 9]]
    assert len(SPACE) == 737_280


def test_nuisance_factors_are_counted_but_not_reported():
    assert len(NORB) == 120
    assert NORB.factor_names == ("category", "light")
    assert NORB.factor_sizes == (3, 4)
    assert NORB.factors(torch.tensor([119])).tolist() == [[2, 3]]


def test_nuisance_factors_are_drawn_uniformly_and_change_no_factor():
    wanted = torch.tensor([[2, 1]]).repeat(5000, 1)
    indices = NORB.indices(wanted, torch.Generator().manual_seed(0))
    assert torch.equal(NORB.factors(indices), wanted)
    counts = torch.bincount(indices // 4 % 10, minlength=10)
    chi_squared = ((counts - 500.0) ** 2 / 500).sum()
    assert chi_squared < 27.9  # the 0.999 quantile with 9 degrees of freedom
    again = NORB.indices(wanted, torch.Generator().manual_seed(0))
    assert torch.equal(indices, again)


def test_without_a_generator_nuisance_factors_are_zero():
    assert NORB.indices(torch.tensor([[2, 1]])).tolist() == [2 * 40 + 1]


@pytest.mark.parametrize("bad", [[[3, 0]], [[0, -1]], [[0, 0, 0]], [0, 0]])
def test_factor_values_outside_the_space_are_refused(bad):
    with pytest.raises(DeftError):
        NORB.indices(torch.tensor(bad))


@pytest.mark.parametrize("bad", [-1, 120])
def test_indices_outside_the_space_are_refused(bad):
    with pytest.raises(DeftError, match="give indices from 0 to 119"):
        NORB.factors(torch.tensor([0, bad]))


@pytest.mark.parametrize(
    "arguments",
    [(("a",), (2, 3)), (("a", "a"), (2, 3)), (("a", "b"), (2, 0)), ((), ()), (("a",), (2,), ("b",))],
)
def test_names_and_sizes_that_do_not_fit_are_refused(arguments):
    with pytest.raises(DeftError):
        FactorSpace(*arguments)

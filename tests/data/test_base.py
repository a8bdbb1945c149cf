"""Groups of images that agree in one factor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from deft_lightning.data import FactorDataset, FactorSpace
from deft_lightning.data.custom import CustomImages
from deft_lightning.errors import DeftError
from tests.helpers import TinySprites, UnlabelledSprites


class WithInstances(TinySprites):
    """Its second factor is a nuisance."""

    def __init__(self) -> None:
        super().__init__()
        self.space = FactorSpace(self.space.names, self.space.sizes, nuisance=("scale",))


@pytest.fixture
def by_rows(tmp_path: Path) -> CustomImages:
    """Nine images whose labels are no grid: value 0 of the first factor six times, 4 twice and 7 once."""
    labels = np.array([(0, 0), (4, 1), (0, 1), (0, 0), (7, 2), (0, 2), (4, 1), (0, 0), (0, 1)])
    np.savez(tmp_path / "own.npz", images=np.zeros((9, 64, 64), np.uint8), factors=labels)
    return CustomImages(tmp_path / "own.npz")


def draw(dataset: FactorDataset, factor: int, count: int, batch: int, seed: int = 0) -> torch.Tensor:
    return dataset.sample_with_fixed_factor(factor, count, batch, torch.Generator().manual_seed(seed))


def is_uniform(values: torch.Tensor, size: int) -> bool:
    """Chi-squared test at 0.999."""
    counts = torch.bincount(values.flatten(), minlength=size).double()
    expected = values.numel() / size
    return len(counts) == size and float(((counts - expected) ** 2 / expected).sum()) < chi2.ppf(0.999, size - 1)


@pytest.mark.parametrize("factor", range(4))
def test_on_a_grid_one_factor_is_held_and_all_others_are_free(factor):
    dataset = TinySprites()
    indices = draw(dataset, factor, 500, 40)
    assert indices.dtype == torch.int64
    assert indices.shape == (500, 40)
    values = dataset.space.factors(indices.flatten()).view(500, 40, 4)
    assert torch.equal(values[..., factor], values[:, :1, factor].expand(500, 40))
    for other, size in enumerate(dataset.space.sizes):
        assert is_uniform(values[:, 0, other] if other == factor else values[..., other], size)


def test_the_nuisance_is_free_too():
    dataset = WithInstances()
    indices = draw(dataset, 1, 300, 30)
    values = TinySprites.space.factors(indices.flatten()).view(300, 30, 4)
    assert torch.equal(values[..., 2], values[:, :1, 2].expand(300, 30))  # posX is factor 1 of three
    assert is_uniform(values[..., 1], 3)


def test_without_a_grid_rows_that_share_the_value_are_drawn_with_replacement(by_rows):
    assert by_rows.space is None
    indices = draw(by_rows, 0, 6000, 5)
    members = [[0, 2, 3, 5, 7, 8], [1, 6], [4]]  # of the three values
    group = torch.tensor([next(i for i, rows in enumerate(members) if row in rows) for row in range(9)])[indices]
    assert torch.equal(group, group[:, :1].expand(6000, 5))
    assert is_uniform(group[:, 0], 3)  # of the values, not of the rows
    for value, rows in enumerate(members):
        drawn = indices[group[:, 0] == value]
        assert set(drawn.flatten().tolist()) == set(rows)
        places = torch.tensor([rows.index(row) if row in rows else -1 for row in range(9)])[drawn]
        assert is_uniform(places, len(rows)) if len(rows) > 1 else not places.any()


def test_a_draw_is_a_function_of_the_generator(by_rows):
    for dataset in (TinySprites(), WithInstances(), by_rows):
        assert torch.equal(draw(dataset, 1, 20, 8), draw(dataset, 1, 20, 8))
        assert not torch.equal(draw(dataset, 1, 20, 8), draw(dataset, 1, 20, 8, seed=1))


@pytest.mark.parametrize(
    ("dataset", "factor"), [(TinySprites(), 4), (TinySprites(), -1), (WithInstances(), 3), (UnlabelledSprites(), 0)]
)
def test_a_factor_that_is_not_there_is_one_sentence(dataset, factor):
    with pytest.raises(DeftError, match=rf"no factor number {factor}: its labelled factors are \["):
        draw(dataset, factor, 2, 2)

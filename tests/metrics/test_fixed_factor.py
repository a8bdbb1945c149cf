"""Batches with one fixed factor: its value is constant, and everything else is uniform."""

from __future__ import annotations

import numpy as np
import pytest

from deft_lightning.common.errors import DeftError
from deft_lightning.metrics import batches_of_rows, draw_batches, draw_pairs, pairs_of_rows
from tests.metrics.golden import grid

SIZES = (3, 1, 8, 5)
VARIED = ((0, 3), (2, 8), (3, 5))


def _uniform(values: np.ndarray, size: int) -> bool:
    """Whether the counts of `values` are within five standard deviations of uniform counts."""
    counts, expected = np.bincount(values.ravel(), minlength=size), values.size / size
    return len(counts) == size and bool((np.abs(counts - expected) < 5 * np.sqrt(expected)).all())


def test_batches_fix_one_factor_and_draw_the_rest() -> None:
    values, fixed = draw_batches(SIZES, 3000, 16, seed=0)
    assert values.shape == (3000, 16, 4)
    assert (values[..., 1] == 0).all()
    assert set(fixed) == {0, 2, 3}  # never the factor with a single value
    for k, size in VARIED:
        assert (values[fixed == k, :, k] == values[fixed == k, :1, k]).all()
        assert _uniform(values[fixed == k, 0, k], size)
        assert _uniform(values[fixed != k, :, k], size)
    assert _uniform(np.unique(fixed, return_inverse=True)[1], 3)


def test_pairs_share_one_factor_and_draw_the_rest() -> None:
    values, fixed = draw_pairs(SIZES, 1000, 16, seed=0)
    assert values.shape == (1000, 16, 2, 4)
    for k, size in VARIED:
        same = values[:, :, 0, k] == values[:, :, 1, k]
        assert same[fixed == k].all()
        assert same[fixed != k].mean() == pytest.approx(1 / size, abs=0.02)
        assert _uniform(values[fixed == k][:, :, 0, k], size)


def test_rows_fix_one_factor_and_draw_the_rest() -> None:
    factors = np.random.default_rng(0).permutation(np.tile(grid((3, 1, 4)), (10, 1)))
    rows, fixed = batches_of_rows(factors, 3000, 16, seed=0)
    assert rows.shape == (3000, 16)
    assert set(fixed) == {0, 2}
    for k, size in ((0, 3), (2, 4)):
        batches = factors[rows[fixed == k]]
        assert (batches[:, :, k] == batches[:, :1, k]).all()
        assert _uniform(batches[:, 0, k], size)
        assert _uniform(factors[rows[fixed != k]][:, :, k], size)
    assert _uniform(rows, len(factors))


def test_pairs_of_rows_are_two_rows() -> None:
    factors = np.random.default_rng(0).permutation(np.tile(grid((3, 1, 4)), (10, 1)))
    rows, fixed = pairs_of_rows(factors, 1000, 16, seed=0)
    assert rows.shape == (1000, 16, 2)
    assert (rows[..., 0] != rows[..., 1]).all()
    for k, size in ((0, 3), (2, 4)):
        values = factors[rows[fixed == k]][..., k]
        assert (values[..., 0] == values[..., 1]).all()
        assert _uniform(values[..., 0], size)
    assert _uniform(rows[..., 1], len(factors))


def test_values_of_a_single_row_are_skipped() -> None:
    factors = np.array([[0], [0], [1], [1], [1], [2]])
    rows, _ = batches_of_rows(factors, 200, 4, seed=0)
    assert set(rows.ravel()) == {0, 1, 2, 3, 4}
    rows, _ = pairs_of_rows(factors, 200, 4, seed=0)
    assert set(map(frozenset, rows.reshape(-1, 2))) == {frozenset(pair) for pair in ((0, 1), (2, 3), (2, 4), (3, 4))}
    with pytest.raises(DeftError, match="no factor has two values"):
        batches_of_rows([[0], [1], [2], [2]], 10, 4, seed=0)


def test_a_seed_reproduces_the_result() -> None:
    for first, second in zip(draw_batches(SIZES, 10, 4, seed=5), draw_batches(SIZES, 10, 4, seed=5), strict=True):
        np.testing.assert_array_equal(first, second)
    assert (draw_batches(SIZES, 10, 4, seed=5)[0] != draw_batches(SIZES, 10, 4, seed=6)[0]).any()


@pytest.mark.parametrize(
    ("sizes", "count", "batch_size", "sentence"),
    [
        ((1, 1), 10, 4, "at least one of them 2 or more"),
        ((3, 0), 10, 4, r"sizes are \[3, 0\]"),
        ((3, 2.5), 10, 4, r"sizes are \[3, 2.5\]"),
        ((3, 2), 0, 4, "0 batches of 4 points"),
        ((3, 2), 10, 1, "10 batches of 1 points"),
    ],
)
def test_invalid_input_is_one_sentence(sizes, count: int, batch_size: int, sentence: str) -> None:
    with pytest.raises(DeftError, match=sentence):
        draw_batches(sizes, count, batch_size, seed=0)

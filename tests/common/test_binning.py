"""Continuous columns are told from classes, and binned."""

from __future__ import annotations

import numpy as np
import pytest

from deft_lightning.common.binning import binned, is_continuous

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("column", "continuous"),
    [
        (RANDOM.uniform(size=2000), True),
        (RANDOM.normal(size=60).astype(np.float32), True),
        (np.linspace(0, 2 * np.pi, 40)[RANDOM.integers(0, 40, 5000)], False),  # dSprites' orientation in radians
        (RANDOM.integers(0, 500, 2000), False),  # numbers of objects
        (RANDOM.integers(0, 500, 2000).astype(float), False),
        (np.array(["a", "b"]), False),
    ],
)
def test_many_values_that_are_not_whole_numbers_are_continuous(column: np.ndarray, continuous: bool) -> None:
    assert is_continuous(column) == continuous


def test_bins_have_equal_width_and_hold_the_ends() -> None:
    assert binned(np.array([-1.0, -0.51, -0.49, 0.0, 0.99, 1.0]), bins=4).tolist() == [0, 0, 1, 2, 3, 3]


def test_bins_of_a_uniform_column_are_equally_full() -> None:
    column = np.linspace(3, 5, 2001)[:-1]
    assert np.bincount(binned(column)).tolist() == [100] * 20

"""IRS against the reference, closed forms and degenerate representations."""

from __future__ import annotations

import numpy as np
import pytest

from deft_lightning.common.errors import DeftError
from deft_lightning.metrics import irs
from tests.metrics.golden import CASES, grid, points, reference


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_the_reference(case: str) -> None:
    codes, factors, _, _ = points(case)
    assert irs(codes, factors).score == pytest.approx(reference(case)["irs"], abs=1e-6)


def test_functions_of_one_factor_are_robust() -> None:
    factors = grid((3, 6, 8))
    assert irs(factors, factors).score == pytest.approx(1.0)
    assert irs(np.repeat(factors**2, 2, axis=1), factors).score == pytest.approx(1.0)


def test_a_rotation_by_hand() -> None:
    """z = a + b for signs a, b: with a fixed, z is at distance 1 from its mean; overall at most at 2. So is a - b."""
    signs = 2 * grid((2, 2)) - 1
    codes = signs @ np.array([[1, 1], [1, -1]])
    result = irs(codes, signs)
    np.testing.assert_allclose(result.per_code, [0.5, 0.5])
    # The weights are the largest distances, 2 and 1: (2 * 0.5 + 1 * 1) / 3.
    assert irs(np.column_stack([codes[:, 0], signs[:, 0]]), signs).score == pytest.approx(2 / 3)


def test_dead_latents_and_constant_factors() -> None:
    factors = grid((3, 6))
    codes = factors @ np.random.default_rng(0).normal(size=(2, 2))
    expected = irs(codes, factors).score
    assert irs(np.column_stack([codes, np.full(18, 0.3)]), factors).score == pytest.approx(expected)
    assert irs(codes, np.column_stack([factors, np.ones(18)])).score == pytest.approx(expected)
    assert irs(np.zeros((18, 2)), factors).score == 0
    assert irs(codes, np.ones((18, 1))).score == 0


def test_a_quantile_outside_its_range_is_one_sentence() -> None:
    with pytest.raises(DeftError, match="quantile is 99"):
        irs(grid((2, 2)), grid((2, 2)), quantile=99)

"""Modularity against the reference, closed forms and degenerate representations."""

from __future__ import annotations

import numpy as np
import pytest

from deft_lightning.metrics import modularity
from deft_lightning.metrics.modularity import modularity_of
from tests.metrics.golden import CASES, grid, points, reference


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_the_reference(case: str) -> None:
    codes, factors, _, _ = points(case)
    expected = reference(case)["modularity_explicitness"]["modularity"]
    assert modularity(codes, factors).score == pytest.approx(expected, abs=1e-6)


def test_by_hand() -> None:
    """I = (1, 1/2, 0): 1 - (1/4) / (1 * 2) = 7/8; two equal factors: 1 - 1/2; no information: 0."""
    information = np.array([[1, 0.5, 0], [1, 1, 0], [0, 0, 0]])
    result = modularity_of(information, np.ones(3))
    np.testing.assert_allclose(result.per_code, [7 / 8, 1 / 2, 0])
    assert result.score == pytest.approx((7 / 8 + 1 / 2) / 3)


def test_identity_and_duplicates_are_modular_and_a_sum_is_not() -> None:
    factors = grid((4, 4, 4))
    assert modularity(factors, factors).score == pytest.approx(1.0)
    assert modularity(np.repeat(factors, 2, axis=1), factors).score == pytest.approx(1.0)
    # A latent with equal information about all factors scores 0.
    assert modularity(factors.sum(axis=1, keepdims=True), factors).score == pytest.approx(0.0, abs=1e-12)


def test_dead_latents_count_as_zero() -> None:
    factors = grid((3, 6))
    assert modularity(np.column_stack([factors, np.full((18, 2), 0.7)]), factors).score == pytest.approx(0.5)


def test_constant_factors_are_left_out() -> None:
    factors = grid((3, 6))
    codes = np.column_stack([factors[:, 0], factors.sum(axis=1)])
    expected = modularity(codes, factors)
    with_constant = modularity(codes, np.column_stack([factors, np.ones(18)]))
    np.testing.assert_allclose(with_constant.per_code, expected.per_code)
    one = modularity(codes, np.column_stack([factors[:, 0], np.ones(18)]))
    np.testing.assert_allclose(one.per_code, [1.0, 1.0])  # a single factor cannot be mixed with others
    assert modularity(codes, np.ones((18, 2))).score == 0

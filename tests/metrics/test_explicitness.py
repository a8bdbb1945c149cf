"""Explicitness against the reference, closed forms and degenerate representations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import special_ortho_group

from deft_lightning.common.errors import DeftError
from deft_lightning.metrics import explicitness
from tests.metrics.golden import CASES, grid, points, reference


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_the_reference(case: str) -> None:
    result, expected = explicitness(*points(case)), reference(case)["modularity_explicitness"]
    assert result.train == pytest.approx(expected["explicitness_train"], abs=0.01)
    assert result.test == pytest.approx(expected["explicitness_test"], abs=0.01)


def test_a_rotation_of_one_hot_codes_is_fully_explicit() -> None:
    """Each value is linearly separable from the others, also after a rotation and with duplicated latents."""
    factors = grid((3, 4))
    one_hot = np.hstack([np.eye(3)[factors[:, 0]], np.eye(4)[factors[:, 1]]])
    for codes in (one_hot, one_hot @ special_ortho_group(7, seed=0).rvs(), np.hstack([one_hot, one_hot])):
        result = explicitness(codes, factors, codes, factors)
        assert (result.train, result.test) == (1.0, 1.0)


def test_noise_has_the_area_of_chance() -> None:
    random = np.random.default_rng(0)
    codes, factors = random.normal(size=(2, 4000, 3)), random.integers(0, 4, size=(2, 4000, 2))
    assert explicitness(codes[0], factors[0], codes[1], factors[1]).test == pytest.approx(0.5, abs=0.02)


def test_degenerate_parts() -> None:
    factors = grid((3, 4))
    dead = np.zeros((12, 2))
    assert explicitness(dead, factors, dead, factors).test == 0.5
    assert explicitness(factors, np.ones((12, 1)), factors, np.ones((12, 1))).test == 0.5
    # Constant factors, and values that occur in one table only, are left out.
    with_constant = np.column_stack([factors[:, 0], np.ones(12)])
    few = factors[:, 0] < 2
    whole = explicitness(factors, factors[:, :1], factors[few], factors[few, :1])
    assert whole == explicitness(factors, with_constant, factors[few], with_constant[few])
    assert whole.test == pytest.approx(1.0)
    assert explicitness(factors[few], factors[few, :1], factors, factors[:, :1]).train == 1.0


def test_tables_of_different_shapes_are_one_sentence() -> None:
    factors = grid((3, 4))
    with pytest.raises(DeftError, match="2 and 1 latents"):
        explicitness(factors, factors, factors[:, :1], factors)
    with pytest.raises(DeftError, match="5 rows of factors"):
        explicitness(factors, factors[:5], factors, factors)
    with pytest.raises(DeftError, match=r"factors have shape \[12\]"):
        explicitness(factors, factors[:, 0], factors, factors)

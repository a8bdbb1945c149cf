"""SAP against the reference, closed forms and degenerate representations."""

from __future__ import annotations

import numpy as np
import pytest

from deft_lightning.common.errors import DeftError
from deft_lightning.metrics import sap
from tests.metrics.golden import CASES, grid, points, reference


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_the_reference(case: str) -> None:
    expected = reference(case)
    assert sap(*points(case)).score == pytest.approx(expected["sap_discrete"], abs=0.005)
    assert sap(*points(case), continuous=True).score == pytest.approx(expected["sap_continuous"], abs=1e-6)


def test_continuous_scores_are_squared_correlations() -> None:
    random = np.random.default_rng(0)
    factors = random.normal(size=(500, 2))
    codes = factors @ random.normal(size=(2, 3)) + random.normal(size=(500, 3))
    result = sap(codes, factors, codes, factors, continuous=True)
    expected = np.corrcoef(codes.T, factors.T)[:3, 3:] ** 2
    np.testing.assert_allclose(result.matrix, expected)
    ordered = np.sort(expected, axis=0)
    assert result.score == pytest.approx((ordered[-1] - ordered[-2]).mean())


def test_identity_duplicates_and_rotation() -> None:
    factors = grid((2, 2, 2))
    signs = 2.0 * factors - 1
    # A binary factor: accuracy 1 from the latent that encodes it, 1/2 (chance) from another.
    assert sap(signs, factors, signs, factors).score == pytest.approx(0.5)
    assert sap(signs, factors, signs, factors, continuous=True).score == pytest.approx(1.0)
    twice = np.hstack([signs, signs])
    assert sap(twice, factors, twice, factors).score == pytest.approx(0.0)
    assert sap(twice, factors, twice, factors, continuous=True).score == pytest.approx(0.0)
    pair = signs[:, :2] @ np.array([[1, 1], [1, -1]])  # 45 degrees: both latents encode both factors equally
    assert sap(pair, factors[:, :2], pair, factors[:, :2], continuous=True).score == pytest.approx(0.0)


def test_dead_latents_and_constant_factors() -> None:
    signs = 2.0 * grid((2, 2)) - 1
    factors = np.column_stack([grid((2, 2)), np.full(4, 3)])
    codes = np.column_stack([signs, np.zeros(4)])
    for continuous, expected in ((False, 0.5), (True, 1.0)):
        result = sap(codes, factors, codes, factors, continuous)
        assert result.score == pytest.approx(expected)  # the constant factor is not in the mean
        assert np.isfinite(result.matrix).all()
        assert sap(codes[:, :1], factors, codes[:, :1], factors, continuous).matrix.shape == (1, 3)
        assert sap(codes, np.ones((4, 1)), codes, np.ones((4, 1)), continuous).score == 0
        assert np.isfinite(sap(np.zeros((4, 2)), factors, np.zeros((4, 2)), factors, continuous).score)


def test_labels_are_refused_as_continuous_factors() -> None:
    factors = grid((2, 2)).astype(str)
    factors[factors == "0"] = "square"
    with pytest.raises(DeftError, match="factors are not numbers: use continuous=False"):
        sap(grid((2, 2)), factors, grid((2, 2)), factors, continuous=True)

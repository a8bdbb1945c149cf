"""Active units, covariance and total correlation of the codes against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deft_lightning.common.errors import DeftError
from deft_lightning.metrics import active_units, covariance, total_correlation

SIGNS = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], dtype=float)  # uncorrelated, of variance 1


def correlated(rho: float) -> np.ndarray:
    """Two latents of variances 1 and 9 with correlation exactly rho."""
    return np.column_stack([SIGNS[:, 0], 3 * (rho * SIGNS[:, 0] + np.sqrt(1 - rho**2) * SIGNS[:, 1])])


def test_active_units_count_variances_above_the_threshold() -> None:
    codes = np.column_stack([SIGNS[:, 0] * 0.2, SIGNS[:, 0] * 0.09, np.full(4, 0.1)])
    result = active_units(codes)  # variances 0.04, 0.0081 and 0
    assert result.score == 1
    np.testing.assert_allclose(result.variance, [0.04, 0.0081, 0], atol=1e-12)
    assert active_units(codes, threshold=0.005).score == 2
    assert active_units(torch.tensor(codes) + 100).score == 1


def test_covariance_of_a_known_pair() -> None:
    codes = np.column_stack([correlated(0.6), np.full(4, 0.1)]) + 5
    np.testing.assert_allclose(covariance(codes), [[1, 1.8, 0], [1.8, 9, 0], [0, 0, 0]], atol=1e-12)


@pytest.mark.parametrize("rho", [0.0, 0.3, -0.9, 0.999])
def test_total_correlation_of_a_pair_is_its_mutual_information(rho) -> None:
    """-log(1 - rho^2) / 2 nats for any scale, sign and order of the latents."""
    expected = -0.5 * np.log(1 - rho**2)
    for codes in (correlated(rho), -correlated(rho)[:, ::-1], correlated(rho) * [100, 1e-3] + 7):
        assert total_correlation(codes).score == pytest.approx(expected, abs=1e-9)


def test_total_correlation_of_a_rotation() -> None:
    """Variances 1 and 9, rotated by 45 degrees, become 5 and 5 with covariance 4."""
    rotated = correlated(0.0) @ np.array([[1, 1], [-1, 1]]) / np.sqrt(2)
    assert total_correlation(rotated).score == pytest.approx(-0.5 * np.log(1 - (4 / 5) ** 2))


def test_total_correlation_of_noise_has_the_bias_of_a_finite_sample() -> None:
    """About D(D - 1) / 4N nats."""
    random = np.random.default_rng(0)
    scores = [total_correlation(random.normal(size=(1000, 10))).score for _ in range(50)]
    assert np.mean(scores) == pytest.approx(90 / 4000, rel=0.1)


def test_dead_latents_are_dropped() -> None:
    padded = np.column_stack([correlated(0.5), np.full(4, 0.1), np.zeros(4)])
    assert total_correlation(padded).score == pytest.approx(total_correlation(correlated(0.5)).score)
    assert total_correlation(np.zeros((4, 3))).score == 0
    assert total_correlation(SIGNS[:, :1]).score == 0


@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_latents_that_determine_each_other_give_a_lower_bound(kind) -> None:
    """Three latents in a plane: the correlations have eigenvalues 2, 1 and 0, and the 0 counts as 1e-10."""
    random = np.random.default_rng(0)
    once = random.normal(size=(1000, 2))
    result = total_correlation(np.column_stack([once, -2 * once[:, 0] + 3]).astype(kind))
    assert result.degenerate == 1
    single = total_correlation(once).score
    assert result.score == pytest.approx(-0.5 * (np.log(1e-10) + np.log(2)) + single, abs=0.01)
    assert "at least" in str(result)


def test_fewer_points_than_latents_are_degenerate() -> None:
    result = total_correlation(np.random.default_rng(0).normal(size=(4, 10)))
    assert result.degenerate == 10 - 3
    assert np.isfinite(result.score)
    assert total_correlation(np.ones((1, 3))).score == 0


@pytest.mark.parametrize("score", [active_units, covariance, total_correlation])
def test_invalid_input_is_one_sentence(score) -> None:
    with pytest.raises(DeftError, match="NaN"):
        score(np.full((4, 2), np.nan))

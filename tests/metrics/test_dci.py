"""DCI against the reference, closed forms and degenerate representations; the fast estimator against the reference."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from deft_lightning.common.errors import DeftError
from deft_lightning.metrics import dci
from deft_lightning.metrics.dci import completeness, disentanglement
from tests.metrics.golden import CASES, grid, points, reference

# Scores of the reference implementation (golden_data/README.md) on the first 500 rows and the first two factors.
SMALL = {
    "axis": {
        "informativeness_train": 1.0,
        "informativeness_test": 0.924,
        "disentanglement": 0.9706320974843784,
        "completeness": 0.8957065646826946,
    },
    "rotated": {
        "informativeness_train": 1.0,
        "informativeness_test": 0.704,
        "disentanglement": 0.39022819691693234,
        "completeness": 0.346319842404408,
    },
    "dead": {
        "informativeness_train": 1.0,
        "informativeness_test": 0.986,
        "disentanglement": 0.9900724597081262,
        "completeness": 0.9877731938086471,
    },
}


@pytest.mark.slow  # scikit-learn's gradient boosting
@pytest.mark.parametrize("case", CASES)
def test_agrees_with_the_reference_on_a_small_table(case: str) -> None:
    codes, factors, codes_test, factors_test = (part[:500] for part in points(case))
    result = dci(codes, factors[:, :2], codes_test, factors_test[:, :2])
    assert result.estimator == "reference"
    for name, value in SMALL[case].items():
        assert getattr(result, name) == pytest.approx(value, abs=0.01), name


@pytest.mark.acceptance  # scikit-learn's gradient boosting takes most of a minute per case
@pytest.mark.parametrize("case", CASES)
def test_agrees_with_the_reference(case: str) -> None:
    result, expected = dci(*points(case)), reference(case)["dci"]
    assert result.estimator == "reference"
    for name, value in expected.items():
        assert getattr(result, name) == pytest.approx(value, abs=0.02), name


@pytest.mark.slow  # scikit-learn's gradient boosting
@pytest.mark.parametrize("case", CASES)
def test_the_fast_estimator_is_close(case: str) -> None:
    result, expected = dci(*points(case), estimator="fast"), reference(case)["dci"]
    assert result.estimator == "fast"
    for name, value in expected.items():
        assert getattr(result, name) == pytest.approx(value, abs=0.05), name


def test_scores_of_an_importance_matrix() -> None:
    assert disentanglement(np.eye(3)) == pytest.approx(1.0)
    assert completeness(np.eye(3)) == pytest.approx(1.0)
    assert disentanglement(np.full((4, 3), 1 / 4)) == pytest.approx(0.0, abs=1e-9)
    assert completeness(np.full((4, 3), 1 / 4)) == pytest.approx(0.0, abs=1e-9)
    # The first factor is encoded equally in two of four latents: 1 - log 2 / log 4. Each latent encodes one factor.
    split = np.array([[0.5, 0], [0.5, 0], [0, 1], [0, 0]])
    assert completeness(split) == pytest.approx((0.5 + 1) / 2)
    assert disentanglement(split) == pytest.approx(1.0)  # the unused latent has weight 0
    assert disentanglement(np.ones((3, 1)) / 3) == 1.0
    assert completeness(np.ones((1, 3))) == 1.0


def _grid_twice() -> tuple[np.ndarray, ...]:
    factors = np.tile(grid((3, 4)), (20, 1))
    return factors, factors, factors, factors


@pytest.mark.parametrize("estimator", ["reference", "fast"])
def test_identity_codes_are_perfect(estimator: str) -> None:
    result = dci(*_grid_twice(), estimator=estimator)
    numbers = result.disentanglement, result.completeness, result.informativeness_train, result.informativeness_test
    assert numbers == pytest.approx((1, 1, 1, 1), abs=1e-6)
    np.testing.assert_allclose(result.importance, np.eye(2), atol=1e-6)
    assert estimator in str(result)


@pytest.mark.parametrize("estimator", ["reference", "fast"])
def test_dead_latents_and_constant_factors(estimator: str) -> None:
    codes, factors, _, _ = _grid_twice()
    codes = np.column_stack([codes, np.zeros(len(codes))])
    factors = np.column_stack([factors, np.ones(len(codes))])
    result = dci(codes, factors, codes, factors, estimator)
    assert result.disentanglement == pytest.approx(1, abs=1e-6)
    assert result.completeness == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(result.importance, np.eye(3)[:, :2] @ np.eye(2, 3), atol=1e-6)
    dead = np.zeros_like(codes)
    result = dci(dead, factors, dead, factors, estimator)
    assert (result.disentanglement, result.completeness) == pytest.approx((0, 0), abs=1e-6)
    assert result.informativeness_test == pytest.approx((1 / 3 + 1 / 4) / 2)
    assert dci(codes, factors[:, 2:], codes, factors[:, 2:], estimator).informativeness_test == 0


def test_a_seed_reproduces_the_result() -> None:
    sample = points("rotated")
    first, second = (dci(*(part[:300] for part in sample), estimator="fast", seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.importance, second.importance)


def test_unknown_and_missing_estimators_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeftError, match='estimator is "forest": use "reference" or "fast"'):
        dci(*_grid_twice(), estimator="forest")
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(DeftError, match=r'pip install "deft-lightning\[fast\]"'):
        dci(*_grid_twice(), estimator="fast")

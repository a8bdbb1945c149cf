"""What holds for every metric: symmetries, dead latents, NaN codes, torch or numpy input, a one-line print."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from deft_lightning import metrics
from deft_lightning.common.errors import DeftError
from deft_lightning.metrics import (
    batches_of_rows,
    beta_vae_of_batches,
    dci,
    explicitness,
    factor_vae_of_batches,
    irs,
    mig,
    modularity,
    pairs_of_rows,
    sap,
)

Metric = Callable[[Any, Any], Any]


def _factor_vae(codes: Any, factors: Any) -> Any:
    rows, fixed = batches_of_rows(factors, 400, 16, seed=0)
    return factor_vae_of_batches(codes[rows], fixed, codes, num_train=300)


def _beta_vae(codes: Any, factors: Any) -> Any:
    rows, fixed = pairs_of_rows(factors, 400, 16, seed=0)
    return beta_vae_of_batches(codes[rows], fixed, num_train=300)


METRICS: dict[str, Metric] = {
    "mig": mig,
    "modularity": modularity,
    "explicitness": lambda z, v: explicitness(z, v, z, v),
    "dci": lambda z, v: dci(z, v, z, v, estimator="fast"),
    "sap": lambda z, v: sap(z, v, z, v),
    "sap, continuous": lambda z, v: sap(z, v, z, v, continuous=True),
    "irs": irs,
    "factor_vae": _factor_vae,
    "beta_vae": _beta_vae,
}


def _numbers(result: Any) -> list[float]:
    """The scores of a result: its float fields."""
    return [value for value in vars(result).values() if isinstance(value, float)]


@pytest.fixture
def sample() -> tuple[np.ndarray, np.ndarray]:
    """500 entangled, noisy codes of three factors in four latents."""
    random = np.random.default_rng(0)
    factors = random.integers([3, 4, 5], size=(500, 3))
    codes = factors @ random.normal(size=(3, 4)) + 0.3 * random.normal(size=(500, 4))
    return codes, factors


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_order_and_sign_of_latents_do_not_matter(metric: Metric, sample: tuple[np.ndarray, np.ndarray]) -> None:
    codes, factors = sample
    reordered = codes[:, [2, 0, 3, 1]] * [1, -1, -1, 1]
    # A sign change may move the thresholds of trees, and solvers stop near the optimum: allow for a few points.
    tolerance = 0.02 if metric is METRICS["dci"] else 1e-3
    assert _numbers(metric(reordered, factors)) == pytest.approx(_numbers(metric(codes, factors)), abs=tolerance)


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_dead_latents_leave_every_score_finite(metric: Metric, sample: tuple[np.ndarray, np.ndarray]) -> None:
    codes, factors = sample
    for dead in (np.column_stack([codes, np.full((500, 3), 0.1)]), np.zeros((500, 3)), np.full((500, 1), -2.5)):
        result = metric(dead, factors)
        assert np.isfinite(_numbers(result)).all()
        assert all(np.isfinite(value).all() for value in vars(result).values() if isinstance(value, np.ndarray))


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_a_constant_factor_changes_nothing(metric: Metric, sample: tuple[np.ndarray, np.ndarray]) -> None:
    codes, factors = sample
    with_constant = np.column_stack([factors, np.full(500, 7)])
    assert _numbers(metric(codes, with_constant)) == pytest.approx(_numbers(metric(codes, factors)))


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_fewer_points_than_bins_are_scored(metric: Metric, sample: tuple[np.ndarray, np.ndarray]) -> None:
    codes, factors = sample
    numbers = _numbers(metric(codes[:15], factors[:15]))
    assert all(0 <= number <= 1 for number in numbers)


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_nan_codes_are_refused(metric: Metric, sample: tuple[np.ndarray, np.ndarray]) -> None:
    codes, factors = sample
    codes[3, 1] = np.nan
    with pytest.raises(DeftError, match="NaN or infinite"):
        metric(codes, factors)


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_torch_and_numpy_give_the_same_and_print(metric: Metric, sample: tuple[np.ndarray, np.ndarray]) -> None:
    codes, factors = sample
    result = metric(codes, factors)
    assert _numbers(metric(torch.tensor(codes), torch.tensor(factors))) == _numbers(result)
    assert f"{_numbers(result)[-1]:.3f}" in str(result)
    assert "\n" not in str(result)


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_noise_scores_below_identity(metric: Metric) -> None:
    random = np.random.default_rng(0)
    factors = random.integers(5, size=(2000, 3))
    noise, identity = _numbers(metric(random.normal(size=(2000, 3)), factors)), _numbers(metric(factors * 1.0, factors))
    assert all(low < high for low, high in zip(noise, identity, strict=True))


def test_every_public_function_has_an_example() -> None:
    """The examples are run by pytest's --doctest-modules."""
    public = {name: getattr(metrics, name) for name in metrics.__all__}
    missing = [name for name, item in public.items() if inspect.isfunction(item) and ">>> " not in str(item.__doc__)]
    assert not missing

"""Bootstrap intervals: coverage of a true value, agreement of the fast path with plain resampling, invalid input."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from deft_lightning.common.errors import DeftError
from deft_lightning.metrics import active_units, bootstrap, infomec, mig, mutual_information, nmi, total_correlation
from deft_lightning.metrics.intervals import FROM_INFORMATION


def channel(values: int, error: float, count: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A code that differs from a uniform factor with probability `error`, and the factor."""
    factor = random.integers(values, size=count)
    wrong = random.random(count) < error
    code = np.where(wrong, (factor + random.integers(1, values, size=count)) % values, factor)
    return code[:, None].astype(float), factor[:, None]


def capacity(values: int, error: float) -> float:
    """I(code; factor) of the symmetric channel, in nats."""
    return np.log(values) + (1 - error) * np.log(1 - error) + error * np.log(error / (values - 1))


def coverage(values: int, error: float, count: int, trials: int = 100) -> tuple[float, float]:
    """Share of the trials in which the basic and the percentile interval contain the true value."""
    random = np.random.default_rng(0)
    truth, basic, percentile = capacity(values, error), 0, 0
    for seed in range(trials):
        table = channel(values, error, count, random)
        low, high, estimate = np.ravel(bootstrap(mutual_information, *table, seed=seed)["score"])
        basic += low <= truth <= high
        percentile += 2 * estimate - high <= truth <= 2 * estimate - low
    return basic / trials, percentile / trials


def test_covers_the_capacity_of_a_binary_symmetric_channel() -> None:
    assert coverage(values=2, error=0.1, count=500)[0] >= 0.9


def test_covers_the_truth_although_the_estimate_is_biased() -> None:
    """8 x 8 cells and 1000 points: a bias of 49 / 2000 nats, larger than the standard error."""
    basic, percentile = coverage(values=8, error=0.5, count=1000)
    assert basic >= 0.9
    assert percentile < 0.8  # why the quantiles are reflected


@pytest.mark.parametrize("metric", list(FROM_INFORMATION))
def test_counting_all_resamples_at_once_equals_plain_resampling(metric) -> None:
    """Codes with few values have the same range, and so the same bins, in every resample."""
    random = np.random.default_rng(0)
    factors = random.integers(0, (3, 4), size=(400, 2))
    codes = np.column_stack([factors @ [1, 2], factors[:, 1], random.integers(0, 3, size=400), np.zeros(400)])
    fast = bootstrap(metric, codes, factors, samples=20, bins=10)
    plain = bootstrap(partial(metric), codes, factors, samples=20, bins=10)
    assert fast.keys() == plain.keys()
    for name in fast:
        for ends in zip(fast[name], plain[name], strict=True):
            np.testing.assert_allclose(*ends, atol=1e-12)


def test_a_small_batch_of_resamples_changes_nothing(monkeypatch) -> None:
    table = channel(3, 0.2, 300, np.random.default_rng(0))
    whole = bootstrap(nmi, *table, samples=30)["score"]
    monkeypatch.setattr("deft_lightning.metrics.intervals.BATCH", 2000)
    np.testing.assert_array_equal(bootstrap(nmi, *table, samples=30)["score"], whole)


def test_a_seed_reproduces_the_result() -> None:
    table = channel(3, 0.2, 300, np.random.default_rng(0))
    first, again, other = (bootstrap(mig, *table, seed=seed)["score"] for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_the_interval_widens_with_the_level_and_narrows_with_the_table() -> None:
    def width(count: int, level: float) -> float:
        interval = bootstrap(mig, *channel(3, 0.2, count, np.random.default_rng(0)), level=level)["score"]
        return interval.high - interval.low

    assert width(500, 0.5) < width(500, 0.9) < width(500, 0.99)
    assert width(8000, 0.95) == pytest.approx(width(500, 0.95) / 4, rel=0.3)  # sqrt(500 / 8000)


def test_a_perfect_representation_is_certain() -> None:
    factors = np.random.default_rng(0).integers(0, (3, 4), size=(500, 2))
    intervals = bootstrap(mig, factors, factors, bounds=(0, 1))
    # Only the spurious information about the other factor varies.
    assert 0.97 < intervals["score"].low <= intervals["score"].high <= 1
    assert intervals["per_factor"].low.shape == (2,)


def test_metrics_of_codes_alone_and_of_several_parts() -> None:
    """The standard error of the TC of a Gaussian pair with correlation rho is rho / sqrt(N)."""
    random = np.random.default_rng(0)
    codes = random.normal(size=(2000, 2)) @ np.array([[1, 0.6], [0, 0.8]])
    low, high, estimate = bootstrap(total_correlation, torch.tensor(codes))["score"]
    assert low < estimate < high
    assert (high - low) / (2 * 1.96) == pytest.approx(0.6 / np.sqrt(2000), rel=0.2)
    assert bootstrap(active_units, codes)["score"] == (2, 2, 2)
    parts = bootstrap(infomec, *channel(2, 0.1, 300, random), mi="binned", samples=5)
    assert {"modularity", "compactness", "explicitness", "nmi"} == set(parts)


def test_a_test_table_is_resampled_separately() -> None:
    seen = []

    def score(codes, factors, codes_test, factors_test) -> float:
        assert (codes == factors).all()
        assert (codes_test == factors_test).all()
        seen.append((codes[:, 0], codes_test[:, 0]))
        return float(codes.mean() - codes_test.mean())

    train, test = np.arange(50.0)[:, None], np.arange(100.0, 120)[:, None]
    interval = bootstrap(score, train, train, test, test, samples=50)["score"]
    assert interval.low < interval.estimate == -85 < interval.high
    assert all(len(a) == 50 and a.max() < 50 and len(b) == 20 and b.min() >= 100 for a, b in seen)
    assert len({tuple(b) for _, b in seen}) == 51


@pytest.mark.parametrize("settings", [{"samples": 1}, {"level": 95}, {"level": 0.0}])
def test_invalid_input_is_one_sentence(settings) -> None:
    with pytest.raises(DeftError, match=r"samples is .* and level is"):
        bootstrap(mig, np.eye(3), np.eye(3), **settings)


def test_nearest_neighbours_are_refused() -> None:
    with pytest.raises(DeftError, match='use mi="binned"'):
        bootstrap(infomec, np.eye(3), np.eye(3))


def test_nan_codes_are_refused() -> None:
    with pytest.raises(DeftError, match="NaN"):
        bootstrap(mig, np.full((4, 2), np.nan), np.zeros((4, 1)))


def test_an_interval_holds_its_estimate_where_resampling_only_moves_a_metric_up() -> None:
    """Rows repeat in every resample, so fewer of them differ: reflected, all resamples are on one side."""

    def share_of_distinct(codes: np.ndarray) -> float:
        return float(np.unique(codes).size / len(codes))  # 1, and about 0.63 for a resample

    low, high, estimate = bootstrap(share_of_distinct, np.arange(500.0)[:, None], samples=50, bounds=(0, 2))["score"]
    assert estimate == 1
    assert low == 1 < high < 1.5

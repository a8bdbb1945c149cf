"""Intervals and tests against their definitions."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from deft_lightning.report import statistics

Z = 1.959963984540054  # the 97.5% point of the normal distribution


@pytest.mark.parametrize(("failures", "runs"), [(0, 10), (3, 10), (10, 10), (143, 300)])
def test_wilson_interval_solves_the_score_equation(failures: int, runs: int) -> None:
    """Both ends p satisfy (f - p)^2 = z^2 p (1 - p) / n; at a rate of 0 or 1 one end is the rate itself."""
    rate = failures / runs
    for end in statistics.wilson(failures, runs):
        assert (rate - end) ** 2 == pytest.approx(Z**2 * end * (1 - end) / runs, abs=1e-12)
    low, high = statistics.wilson(failures, runs)
    assert 0 <= low <= rate <= high <= 1
    assert low < high


def test_mean_interval_is_student_t() -> None:
    low, high = statistics.mean_interval([1.0, 2.0, 3.0, 4.0])
    half = 3.182446305284263 * np.sqrt(5 / 3) / 2  # t of 3 degrees of freedom x standard error
    assert (low, high) == pytest.approx((2.5 - half, 2.5 + half))
    assert np.isnan(statistics.mean_interval([1.0])).all()
    assert np.isnan(statistics.mean_interval([])).all()


@pytest.mark.parametrize("count", [6, 10, 25])
def test_median_interval_covers_the_median(count: int) -> None:
    """At least 95% for any distribution, and no wider than it must be: one step in would cover less."""
    low, high = statistics.median_interval(range(1, count + 1))
    k = int(low)
    assert high == count + 1 - k  # the k-th lowest and the k-th highest
    tosses = np.array([[1.0]])
    for _ in range(count):  # Pascal's triangle: the distribution of heads in `count` tosses
        tosses = np.convolve(tosses.ravel(), [0.5, 0.5])[None]
    chances = tosses.ravel()
    assert 1 - 2 * chances[:k].sum() >= 0.95
    assert 1 - 2 * chances[: k + 1].sum() < 0.95


@pytest.mark.parametrize("values", [[], [0.3], [0.1, 0.2, 0.3, 0.4, 0.5]])
def test_too_few_runs_have_no_median_interval(values: list[float]) -> None:
    assert np.isnan(statistics.median_interval(values)).all()


def test_superiority_counts_pairs() -> None:
    a, b = [0.1, 0.4, 0.4, 0.9], [0.2, 0.4, 0.05]
    wins = sum((x > y) + 0.5 * (x == y) for x in a for y in b)
    comparison = statistics.compare(a, b)
    assert comparison.superiority == pytest.approx(wins / 12)
    assert comparison.cliffs_delta == pytest.approx(
        (sum(x > y for x in a for y in b) - sum(x < y for x in a for y in b)) / 12
    )
    assert statistics.compare(b, a).superiority == pytest.approx(1 - wins / 12)
    assert statistics.compare(b, a).p == pytest.approx(comparison.p)


def test_rank_test_is_exact_for_few_runs() -> None:
    """Three runs that all beat three others: 2 of the 20 ways to deal six ranks are as extreme."""
    deals = {frozenset(deal[:3]) for deal in permutations(range(6))}
    extreme = sum(sum(deal) in (3, 12) for deal in deals)
    assert statistics.compare([4, 5, 6], [1, 2, 3]).p == pytest.approx(extreme / len(deals))


def test_equal_samples_show_no_difference() -> None:
    comparison = statistics.compare([0.2] * 5, [0.2] * 5)
    assert (comparison.p, comparison.superiority) == (1.0, 0.5)
    assert statistics.kruskal([[0.2] * 5, [0.2] * 5]) == 1.0


def test_single_runs_are_not_compared() -> None:
    assert statistics.compare_all({"a": [0.1], "b": [0.2, 0.3], "c": [0.4, 0.5]}).keys() == {("b", "c")}
    assert statistics.kruskal([[0.1], [0.2, 0.3]]) is None


def test_holm_multiplies_by_what_is_left() -> None:
    """Sorted p values times m, m - 1, ..., never falling and never above 1; the order of the input is kept."""
    assert statistics.holm([0.03, 0.01, 0.04, 0.5]) == pytest.approx([0.09, 0.04, 0.09, 0.5])
    assert statistics.holm([0.6, 0.7]) == pytest.approx([1.0, 1.0])
    assert statistics.holm([0.02]) == pytest.approx([0.02])
    assert statistics.holm([]) == []


def test_kruskal_finds_the_sample_that_differs() -> None:
    random = np.random.default_rng(0)
    same = [random.normal(size=30).tolist() for _ in range(4)]
    p_same, p_shifted = statistics.kruskal(same), statistics.kruskal([*same[:3], [x + 3 for x in same[3]]])
    assert p_same is not None
    assert p_shifted is not None
    assert p_shifted < 1e-6
    assert p_same > 0.01


def test_paired_differences_have_the_interval_and_the_number_of_pairs_of_theory() -> None:
    """For normal differences the interval is about mean +- 1.96 sd / sqrt(n), and the power of a z test is known."""
    random = np.random.default_rng(0)
    b = random.normal(size=400)
    result = statistics.paired(b + 0.1 + 0.2 * random.normal(size=400), b)
    assert result.mean == pytest.approx(0.1, abs=0.03)
    assert result.deviation == pytest.approx(0.2, rel=0.1)
    half = 1.96 * result.deviation / 20
    assert (result.low, result.high) == pytest.approx((result.mean - half, result.mean + half), abs=0.003)
    assert statistics.Paired(0.0, -1, 1, 0.2).needed is None
    assert statistics.Paired(0.1, -1, 1, 0.0).needed == 2


@pytest.mark.parametrize("effect", [0.5, 1.0, 2.0])
def test_the_pairs_needed_show_the_difference_in_four_of_five_studies(effect: float) -> None:
    """By simulation, with the t interval that `paired` gives; one pair fewer shows it in fewer."""
    n = statistics.Paired(-effect, 0, 0, 1.0).needed
    assert n is not None
    random = np.random.default_rng(0)
    rates = []
    for pairs in (n, n - 1):
        draws = effect + random.normal(size=(20_000, pairs))
        half = stats.t.ppf(0.975, pairs - 1) * draws.std(axis=1, ddof=1) / np.sqrt(pairs)
        rates.append(np.mean(np.abs(draws.mean(axis=1)) > half))
    assert rates[0] > 0.79
    assert rates[1] < 0.81


@pytest.mark.parametrize(("n", "d"), [(34, 0.5), (10, 1.0), (6, 1.5), (5, 2.0), (128, 0.25), (199, 0.2)])
def test_pairs_needed_for_known_effects(n: int, d: float) -> None:
    """Sample sizes of the paired t test at 80% power as G*Power gives them; docs/sweeps.md has a table of such."""
    assert statistics.Paired(d, 0, 0, 1.0).needed == n


def test_exact_tests_of_failures_count_the_outcomes_as_extreme() -> None:
    """McNemar: of the n seeds on which one alone fails, all go one way in 2 of 2^n; the others say nothing."""
    assert statistics.mcnemar([1, 1, 1, 1, 0, 1], [0, 0, 0, 0, 0, 1]) == pytest.approx(2 / 2**4)
    assert statistics.mcnemar([1, 0, 1], [1, 0, 1]) == 1
    assert statistics.mcnemar([1, 0], [0, 1]) == 1
    # Fisher: three failures of three against none of three, 2 of the 20 ways to place them
    assert statistics.fisher([1, 1, 1], [0, 0, 0]) == pytest.approx(2 / 20)


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_the_interval_of_a_paired_difference_contains_it_in_95_of_100_studies(seeds: int) -> None:
    random = np.random.default_rng(seeds)
    studies = 1 + random.normal(size=(2000, 2, seeds)) * [[0.5], [0.3]]
    hits = [row.low <= 0 <= row.high for a, b in studies for row in [statistics.paired(a, b)]]
    assert np.mean(hits) == pytest.approx(0.95, abs=0.015)

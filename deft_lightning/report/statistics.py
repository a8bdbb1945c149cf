"""Confidence intervals, rank tests and effect sizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

LEVEL = 0.95
POWER = 0.8
EXACT = 1000
"""Pairs from which on the normal distribution is close enough to Student's t."""
NO_INTERVAL = (float("nan"), float("nan"))


class Comparison(NamedTuple):
    """Two samples compared by ranks; `superiority` is P(A > B) + P(A = B) / 2: 0.5 when neither tends to be higher."""

    superiority: float
    p: float

    @property
    def cliffs_delta(self) -> float:
        """P(A > B) - P(A < B), from -1 to 1."""
        return 2 * self.superiority - 1


def wilson(failures: int, runs: int) -> tuple[float, float]:
    """95% Wilson score interval of a rate. Reference: Wilson, JASA 1927."""
    interval = stats.binomtest(failures, runs).proportion_ci(LEVEL, method="wilson")
    return float(interval.low), float(interval.high)


def mean_interval(values: ArrayLike) -> tuple[float, float]:
    """95% t interval of the mean; NaN for fewer than two values."""
    x = np.asarray(values, float)
    if len(x) < 2:
        return NO_INTERVAL
    half = _student(len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x))
    return float(x.mean() - half), float(x.mean() + half)


@cache
def _student(freedom: int) -> float:
    """The 97.5% point of Student's t."""
    return float(stats.t.ppf((1 + LEVEL) / 2, freedom))


def median_interval(values: ArrayLike) -> tuple[float, float]:
    """95% interval of the median between two order statistics, for any distribution; NaN for fewer than six values."""
    x = np.sort(np.asarray(values, float))
    rank = _median_rank(len(x))
    return (float(x[rank - 1]), float(x[-rank])) if rank else NO_INTERVAL


@cache
def _median_rank(count: int) -> int:
    """Between the k-th lowest and the k-th highest of `count` values lies the median with 95%: the largest k, or 0."""
    return int(stats.binom.ppf((1 - LEVEL) / 2, count, 0.5)) if count else 0


def compare(a: ArrayLike, b: ArrayLike) -> Comparison:
    """Mann-Whitney U test of two samples, two-sided. Reference: Mann & Whitney, 1947."""
    x, y = np.asarray(a, float), np.asarray(b, float)
    with np.errstate(all="ignore"):  # all values equal: no variance, p is NaN
        u, p = stats.mannwhitneyu(x, y)
    return Comparison(float(u) / (len(x) * len(y)), 1.0 if np.isnan(p) else float(p))


def compare_all(samples: Mapping[str, Sequence[float]]) -> dict[tuple[str, str], Comparison]:
    """All pairs of samples with at least two values, in the order of `samples`; p is not corrected."""
    usable = [name for name in samples if len(samples[name]) >= 2]
    return {(a, b): compare(samples[a], samples[b]) for a, b in combinations(usable, 2)}


class Paired(NamedTuple):
    """The mean of paired differences, its 95% interval, and their standard deviation."""

    mean: float
    low: float
    high: float
    deviation: float

    @property
    def needed(self) -> int | None:
        """Pairs with which a two-sided t test at 5% shows a difference of this size with a probability of 80%.

        The smallest n whose noncentral t distribution, of n - 1 degrees of freedom around sqrt(n) mean / deviation, has
        80% beyond the critical values. None for no difference. It is as rough as the mean and the deviation are.
        """
        if not self.mean:
            return None
        if not self.deviation:
            return 2
        effect = abs(self.mean) / self.deviation
        normal = stats.norm.ppf((1 + LEVEL) / 2) + stats.norm.ppf(POWER)  # a lower bound: t has heavier tails
        n = max(2, math.ceil((normal / effect) ** 2))
        while n < EXACT and _power(n, effect) < POWER:
            n += 1
        return n


def paired(a: ArrayLike, b: ArrayLike) -> Paired:
    """The differences a - b of values that belong together, such as those of one seed; at least two.

    The interval is Student's t. Studies have few seeds, and of five the percentile interval of a bootstrap contains the
    true mean difference in 83% of studies only, of ten in 90%.
    """
    difference = np.asarray(a, float) - np.asarray(b, float)
    return Paired(float(difference.mean()), *mean_interval(difference), float(difference.std(ddof=1)))


def _power(n: int, effect: float) -> float:
    """The probability with which a t test of n pairs shows a mean of `effect` standard deviations."""
    critical, around = _student(n - 1), effect * math.sqrt(n)
    return float(stats.nct.sf(critical, n - 1, around) + stats.nct.cdf(-critical, n - 1, around))


def mcnemar(a: ArrayLike, b: ArrayLike) -> float:
    """p of McNemar's exact test that two methods fail equally often: `a` and `b` are 0 or 1 over the same seeds.

    Reference: McNemar, Note on the sampling error of the difference between correlated proportions, 1947.
    """
    x, y = np.asarray(a, bool), np.asarray(b, bool)
    only_a, only_b = int((x & ~y).sum()), int((~x & y).sum())
    return float(stats.binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def fisher(a: ArrayLike, b: ArrayLike) -> float:
    """p of Fisher's exact test that two samples of 0 and 1 have one rate."""
    x, y = np.asarray(a, bool), np.asarray(b, bool)
    return float(stats.fisher_exact([[x.sum(), (~x).sum()], [y.sum(), (~y).sum()]]).pvalue)


def unpaired(a: ArrayLike, b: ArrayLike) -> tuple[float, float]:
    """95% interval of mean(a) - mean(b) of two samples that do not belong together, by Welch's t test.

    NaN where a sample has fewer than two values, or neither has any spread.
    """
    x, y = np.asarray(a, float), np.asarray(b, float)
    if min(len(x), len(y)) < 2 or x.std() == y.std() == 0:
        return NO_INTERVAL
    interval = stats.ttest_ind(x, y, equal_var=False).confidence_interval(LEVEL)
    return float(interval.low), float(interval.high)


def bootstrap(values: ArrayLike, statistic: Callable[..., Any]) -> tuple[float, float]:
    """95% percentile interval of `statistic`, such as `numpy.mean`, over 10,000 resamples with a fixed seed."""
    x = np.asarray(values, float)
    low, high = np.quantile(statistic(x[_resamples(len(x))], axis=1), ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(low), float(high)


@lru_cache(maxsize=4)
def _resamples(count: int) -> NDArray[np.int64]:
    """Indices of 10,000 resamples, [10_000, count]: the same for every sample of that size."""
    return np.random.default_rng(0).integers(count, size=(10_000, count))


def kruskal(samples: Sequence[Sequence[float]]) -> float | None:
    """p of the Kruskal-Wallis test that all samples have one distribution; None for fewer than two samples."""
    usable = [s for s in samples if len(s) >= 2]
    if len(usable) < 2:
        return None
    if len({value for s in usable for value in s}) == 1:
        return 1.0  # all equal: the statistic is 0 / 0
    return float(stats.kruskal(*usable).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """p values corrected for their number: the chance of at least one false rejection stays below the level.

    Reference: Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    p = np.asarray(p_values, float)
    order = np.argsort(p)
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1)
    return corrected.tolist()

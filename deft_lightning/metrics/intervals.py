"""Bootstrap intervals over the rows of a table: how certain is a score, given the sample it was computed from?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_array

from deft_lightning.common.errors import DeftError
from deft_lightning.metrics._inputs import FloatArray, IntArray, as_codes, as_factors, as_numpy
from deft_lightning.metrics.infomec import ROUNDING, infomec
from deft_lightning.metrics.modularity import modularity, modularity_of
from deft_lightning.metrics.mutual_information import discretise, gap, mig, mutual_information, nmi, normalise

BATCH = 2**22  # row weights held in memory at a time: 32 MB


class Interval(NamedTuple):
    """An interval around a score; numbers, or arrays of the shape of the score.

    Attributes:
        low: lower end.
        high: upper end.
        estimate: score of the whole table.
    """

    low: Any
    high: Any
    estimate: Any


# Metrics that depend only on MI [D, K] and factor entropies [K] in nats: all their resamples are counted at once.
FROM_INFORMATION: dict[Callable[..., Any], Callable[[FloatArray, FloatArray], Any]] = {
    mutual_information: lambda information, entropy: information,
    nmi: normalise,
    mig: lambda information, entropy: gap(normalise(information, entropy), entropy),
    modularity: modularity_of,
}


def bootstrap(
    metric: Callable[..., Any],
    codes: Any,
    factors: Any = None,
    *test: Any,
    samples: int = 200,
    seed: int = 0,
    level: float = 0.95,
    bounds: tuple[float, float] = (-np.inf, np.inf),
    **options: Any,
) -> dict[str, Interval]:
    """Basic bootstrap intervals of `metric(codes, factors, *test, **options)`, by name of the score.

    The names are the numeric fields of the metric's dataclass, or "score" if the metric returns a number or
    an array. For an array, each entry has its interval.

    With the score t of the whole table and the quantiles q of the scores of resampled tables, the interval is

        [2t - q_high, 2t - q_low]

    (Davison & Hinkley 1997, Sec. 5.2) and not [q_low, q_high]. The reason is bias: the MI of a histogram is
    biased upwards by about cells / 2N, and a resample, which repeats rows, is biased upwards by the same
    amount again. Quantiles would miss the true value by twice the bias; reflecting them at t removes it. The
    interval is therefore one for the score of an infinite table. If the bias exceeds the noise (weak latents,
    small tables, many values), the biased score itself lies outside.

    MI, NMI, MIG and modularity compute all resamples at once, with the bins of the whole table. Other metrics
    are called once per resample.

    Known weakness: the coverage is below `level` at the edge of the range, for maxima and gaps of nearly equal
    entries (MIG of noise), and if most cells contain only a few points. Where resampling shifts a metric by more than
    it spreads it, the reflected quantiles are on one side of the estimate; the interval then ends at the estimate, and
    is too narrow on the other side. The interval does not include the
    spread between training seeds. Estimators based on distances between points mistake repeated rows for
    information, so InfoMEC with mi="knn" is refused.

    Args:
        metric: a metric function of this package, or any function of the same arguments.
        codes: [N, D].
        factors: [N, K]; omit them for a metric of codes only.
        test: codes [M, D] and factors [M, K] of a test table, whose rows are resampled separately.
        samples: number of resamples; each draws the rows with replacement.
        seed: seed of the resamples.
        level: nominal coverage, in (0, 1).
        bounds: range of the metric, such as (0, 1); the interval is clipped to it.
        options: passed to the metric.

    Raises:
        DeftError: for fewer than 2 samples, a level outside (0, 1), or InfoMEC with mi="knn"; and as the
            metric does.

    Examples:
        >>> import numpy as np
        >>> from deft_lightning.metrics import bootstrap, mig
        >>> factors = np.random.default_rng(0).integers(0, 3, size=(300, 2))
        >>> low, high, estimate = bootstrap(mig, factors, factors, samples=20, bounds=(0, 1))["score"]
        >>> 0.9 < low <= high <= 1
        True
    """
    if samples < 2 or not 0 < level < 1:
        raise DeftError(f"samples is {samples} and level is {level}: use 2 samples or more, and a level inside (0, 1).")
    if metric is infomec and options.get("mi", "knn") == "knn":
        raise DeftError('mi is "knn", which mistakes repeated rows of a bootstrap for information: use mi="binned".')
    estimate = _numbers(metric(*_arguments(codes, factors, test), **options))
    random = np.random.default_rng(seed)
    if metric in FROM_INFORMATION:
        draws = _from_information(metric, as_codes(codes), as_factors(factors, len(codes)), samples, random, **options)
    else:
        draws = _one_by_one(metric, _arguments(codes, factors, test), samples, random, options)
    collected = [_numbers(draw) for draw in draws]
    tails = [(1 - level) / 2, (1 + level) / 2]
    intervals = {}
    for name, value in estimate.items():
        low, high = np.quantile(np.stack([draw[name] for draw in collected]), tails, axis=0)
        ends = np.clip(2 * value - high, *bounds), np.clip(2 * value - low, *bounds)
        ends = np.minimum(ends[0], value), np.maximum(ends[1], value)  # see the known weakness
        intervals[name] = Interval(*(end if value.ndim else float(end) for end in (*ends, value)))
    return intervals


def _arguments(codes: Any, factors: Any, test: tuple[Any, ...]) -> list[Any]:
    return [codes] if factors is None else [codes, factors, *test]


def _numbers(result: Any) -> dict[str, FloatArray]:
    """The numeric parts of a metric's result; leaves out names of estimators and masks."""
    if is_dataclass(result):
        parts = {field.name: np.asarray(getattr(result, field.name)) for field in fields(result)}
    else:
        parts = {"score": np.asarray(result)}
    return {name: part.astype(np.float64) for name, part in parts.items() if part.dtype.kind in "iuf"}


def _one_by_one(
    metric: Callable[..., Any], tables: list[Any], samples: int, random: np.random.Generator, options: dict[str, Any]
) -> Iterator[Any]:
    arrays = [np.asarray(as_numpy(table)) for table in tables]
    for _ in range(samples):
        drawn: list[Any] = []
        for first in range(0, len(arrays), 2):  # codes and factors of a table are resampled together
            rows = random.integers(len(arrays[first]), size=len(arrays[first]))
            drawn += [array[rows] for array in arrays[first : first + 2]]
        yield metric(*drawn, **options)


def _from_information(
    metric: Callable[..., Any],
    codes: FloatArray,
    factors: IntArray,
    samples: int,
    random: np.random.Generator,
    bins: int = 20,
) -> Iterator[Any]:
    """Results of all resamples. A resample is a weight per row, so all counts are one sparse matrix product."""
    binned = discretise(codes, bins)
    sizes = factors.max(axis=0) + 1
    memberships = [_membership(binned, bins, values, int(size)) for values, size in zip(factors.T, sizes, strict=True)]
    count, latents = binned.shape
    batch = max(1, BATCH // count)
    for first in range(0, samples, batch):
        weights = np.stack(  # [N, B]
            [
                np.bincount(random.integers(count, size=count), minlength=count)
                for _ in range(min(batch, samples - first))
            ],
            axis=1,
        ).astype(np.float64)
        information, entropy = [], []
        for membership, size in zip(memberships, sizes, strict=True):
            joint = (membership @ weights / count).reshape(latents, bins, int(size), -1)  # [D, bins, values, B]
            latent, factor = _entropy(joint.sum(axis=2)), _entropy(joint[0].sum(axis=0)[None])  # [D, B], [1, B]
            mutual = latent + factor - _entropy(joint.reshape(latents, bins * int(size), -1))
            information.append(np.where(mutual > ROUNDING, mutual, 0.0))
            entropy.append(factor[0])
        for matrix, entropies in zip(np.stack(information).T, np.stack(entropy).T, strict=True):  # [B, D, K], [B, K]
            yield FROM_INFORMATION[metric](matrix, entropies)


def _membership(binned: IntArray, bins: int, values: IntArray, size: int) -> csr_array:
    """Sparse matrix [D * bins * size, N]: 1 if a row of the table falls into a cell of (latent, bin, value)."""
    count, latents = binned.shape
    cells = (binned + bins * np.arange(latents)) * size + values[:, None]  # [N, D]
    rows = np.repeat(np.arange(count), latents)
    return csr_array((np.ones(cells.size), (cells.ravel(), rows)), shape=(latents * bins * size, count))


def _entropy(p: FloatArray) -> FloatArray:
    """Entropy -sum p log p over the second axis of p [D, cells, B], in nats."""
    logarithm = np.log(p, out=np.zeros_like(p), where=p > 0)
    return -(p * logarithm).sum(axis=1)

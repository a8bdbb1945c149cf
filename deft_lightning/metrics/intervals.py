"""How certain a score is, given the table it was computed from: bootstrap intervals over the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from deft_lightning.common.errors import DeftError
from deft_lightning.metrics._inputs import Codes, Factors, as_codes, as_factors, as_numpy
from deft_lightning.metrics.infomec import ROUNDING, infomec
from deft_lightning.metrics.modularity import modularity, modularity_of
from deft_lightning.metrics.mutual_information import discretise, gap, mig, mutual_information, nmi, normalise

Matrix = NDArray[np.float64]

BATCH = 2**22  # row weights held at a time: 32 MB


class Interval(NamedTuple):
    """`low` and `high` around `estimate`, the score of the whole table: numbers, or arrays of its shape."""

    low: Any
    high: Any
    estimate: Any


# Metrics that are functions of MI [D, K] and factor entropies [K], both in nats: all their resamples are drawn at once.
FROM_INFORMATION: dict[Callable[..., Any], Callable[[Matrix, Matrix], Any]] = {
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
    """Basic bootstrap intervals of `metric(codes, factors, *test, **options)`, by name.

    The rows of codes [N, D] and factors [N, K] are drawn again, with replacement, `samples` times; `test` may
    be the codes and factors of a test table, whose rows are drawn separately. `factors` is left out for
    metrics of codes alone. The names are the numeric fields of the metric's dataclass, or `"score"` where it
    returns a number or an array; arrays get an interval for every entry.

    The interval is [2t - q_high, 2t - q_low] for the score t and the quantiles q of the resampled scores
    (Davison & Hinkley 1997, Sec. 5.2), and not [q_low, q_high]: a histogram's MI is biased upwards by about
    cells / 2N, a resample, with its repeated rows, is biased upwards once more by the same amount, so that
    quantiles miss the truth by twice the bias where reflecting them takes it off. The interval is therefore
    one for the score of an endless table, and where bias outweighs noise (weak latents, small tables, many
    values) the biased score itself lies outside of it. `bounds`, such as (0, 1), cuts what reflection carries
    beyond the metric's range. Known weakness: it covers less than `level` at the edge of the range, for
    maxima and gaps of nearly equal entries (MIG of noise), and where most cells hold a handful of points; it
    says nothing of the spread between training seeds. Estimators that rely on distances between points
    (InfoMEC with `mi="knn"`, which is refused) take repeated rows for information.

    MI, NMI, MIG and modularity count all their resamples at once, in the bins of the whole table; other metrics are
    called once for every resample. Raises `DeftError` for unusable settings and as the metric does.
    """
    if samples < 2 or not 0 < level < 1:
        raise DeftError(f"bootstrap got samples={samples}, level={level}: give 2 or more, and a level inside (0, 1).")
    if metric is infomec and options.get("mi", "knn") == "knn":
        raise DeftError('nearest neighbours take the repeated rows of a bootstrap for information: give mi="binned".')
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
        ends = (np.clip(2 * value - end, *bounds) for end in (high, low))
        intervals[name] = Interval(*(end if value.ndim else float(end) for end in (*ends, value)))
    return intervals


def _arguments(codes: Any, factors: Any, test: tuple[Any, ...]) -> list[Any]:
    return [codes] if factors is None else [codes, factors, *test]


def _numbers(result: Any) -> dict[str, Matrix]:
    """The numeric parts of a metric's result; names of estimators and masks are not resampled."""
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
        for first in range(0, len(arrays), 2):  # codes and factors of a table keep their rows together
            rows = random.integers(len(arrays[first]), size=len(arrays[first]))
            drawn += [array[rows] for array in arrays[first : first + 2]]
        yield metric(*drawn, **options)


def _from_information(
    metric: Callable[..., Any],
    codes: Codes,
    factors: Factors,
    samples: int,
    random: np.random.Generator,
    bins: int = 20,
) -> Iterator[Any]:
    """A resample is a weight for every row: weighted counts of all resamples are one sparse matrix product."""
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


def _membership(binned: NDArray[np.int64], bins: int, values: NDArray[np.int64], size: int) -> csr_array:
    """[D * bins * size, N]: 1 where a row of the table falls in a cell of (latent, bin, value)."""
    count, latents = binned.shape
    cells = (binned + bins * np.arange(latents)) * size + values[:, None]  # [N, D]
    rows = np.repeat(np.arange(count), latents)
    return csr_array((np.ones(cells.size), (cells.ravel(), rows)), shape=(latents * bins * size, count))


def _entropy(p: Matrix) -> Matrix:
    """-sum p log p over the second axis of [D, cells, B]."""
    logarithm = np.log(p, out=np.zeros_like(p), where=p > 0)
    return -(p * logarithm).sum(axis=1)

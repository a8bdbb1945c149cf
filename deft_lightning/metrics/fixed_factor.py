"""Batches in which one factor is fixed, for the FactorVAE and beta-VAE scores: from a grid or from table rows.

Many batches are drawn before they are encoded. An encoder thus sees few large chunks of points; if the batches
consist of the rows of a table, each image is encoded once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deft_lightning.common.errors import DeftError
from deft_lightning.metrics._inputs import IntArray, as_factors, as_numpy

Encoder = Callable[[IntArray], Any]
Seed = int | np.random.Generator

CHUNK = 8192  # points per call of an encoder: large enough to be efficient, small enough for memory


def draw_batches(sizes: Sequence[int], count: int, batch_size: int, seed: Seed) -> tuple[IntArray, IntArray]:
    """Draw batches of points in which one factor is fixed, from the grid of all factor values.

    The fixed factor of a batch is uniform among the factors with more than one value. Its value and all other
    factors are uniform too.

    Args:
        sizes: [K], number of values of each factor.
        count: number of batches.
        batch_size: points per batch.
        seed: seed or generator.

    Returns:
        Factor values [count, batch_size, K], and the fixed factor of each batch [count].

    Raises:
        DeftError: for sizes or counts that are not whole numbers above 0, or if no factor varies.

    Examples:
        >>> from deft_lightning.metrics import draw_batches
        >>> values, fixed = draw_batches([3, 4], count=5, batch_size=8, seed=0)
        >>> values.shape, fixed.shape
        ((5, 8, 2), (5,))
        >>> bool((values[0, :, fixed[0]] == values[0, 0, fixed[0]]).all())  # one value throughout the batch
        True
    """
    return _drawn(sizes, count, (batch_size,), seed)


def draw_pairs(sizes: Sequence[int], count: int, batch_size: int, seed: Seed) -> tuple[IntArray, IntArray]:
    """Draw batches of pairs of points that share one factor, from the grid of all factor values.

    As `draw_batches`, but the value of the shared factor is drawn again for each pair.

    Returns:
        Factor values [count, batch_size, 2, K], and the shared factor of each batch [count].

    Examples:
        >>> from deft_lightning.metrics import draw_pairs
        >>> values, shared = draw_pairs([3, 4], count=5, batch_size=8, seed=0)
        >>> values.shape, shared.shape
        ((5, 8, 2, 2), (5,))
        >>> bool((values[0, :, 0, shared[0]] == values[0, :, 1, shared[0]]).all())  # each pair shares a value
        True
    """
    return _drawn(sizes, count, (batch_size, 2), seed)


def batches_of_rows(factors: Any, count: int, batch_size: int, seed: Seed) -> tuple[IntArray, IntArray]:
    """Draw batches of table rows in which one factor is fixed, for data without a grid.

    The fixed factor of a batch is uniform among the factors that offer a choice. Its value is that of a row
    drawn uniformly. The batch is drawn with replacement from the rows of that value. Values of fewer than two
    rows are skipped.

    Args:
        factors: [N, K], any labels.
        count: number of batches.
        batch_size: rows per batch.
        seed: seed or generator.

    Returns:
        Row numbers [count, batch_size], and the fixed factor of each batch [count].

    Raises:
        DeftError: for factors that are not a matrix, or if no factor has two values of at least two rows each.

    Examples:
        >>> import numpy as np
        >>> from deft_lightning.metrics import batches_of_rows
        >>> factors = np.tile(np.indices((2, 3)).reshape(2, -1).T, (4, 1))  # [24, 2]
        >>> rows, fixed = batches_of_rows(factors, count=5, batch_size=8, seed=0)
        >>> rows.shape, len(np.unique(factors[rows[0], fixed[0]]))
        ((5, 8), 1)
    """
    rows, fixed, _, _ = _drawn_rows(factors, count, (batch_size,), seed)
    return rows, fixed


def pairs_of_rows(factors: Any, count: int, batch_size: int, seed: Seed) -> tuple[IntArray, IntArray]:
    """Draw batches of pairs of table rows that share one factor.

    As `batches_of_rows`, but the value of the shared factor is drawn again for each pair. The rows of a pair
    differ.

    Returns:
        Row numbers [count, batch_size, 2], and the shared factor of each batch [count].

    Examples:
        >>> import numpy as np
        >>> from deft_lightning.metrics import pairs_of_rows
        >>> factors = np.tile(np.indices((2, 3)).reshape(2, -1).T, (4, 1))  # [24, 2]
        >>> rows, shared = pairs_of_rows(factors, count=5, batch_size=8, seed=0)
        >>> first, second = factors[rows[0], shared[0]].T
        >>> rows.shape, bool((first == second).all())
        ((5, 8, 2), True)
    """
    rows, fixed, groups, random = _drawn_rows(factors, count, (batch_size, 1), seed)
    second = np.empty_like(rows)
    for k, (order, place, first, size) in groups.items():
        batches = np.flatnonzero(fixed == k)
        row = rows[batches]
        step = random.integers(1, size[row])  # from 1 to size - 1, cyclic: any other row of the group
        second[batches] = order[first[row] + (place[row] - first[row] + step) % size[row]]
    return np.concatenate([rows, second], axis=2), fixed


def encoded(
    encode: Encoder,
    draw: Callable[..., tuple[IntArray, IntArray]],
    sizes: Sequence[int],
    count: int,
    points: int,
    seed: Seed,
) -> Iterator[tuple[NDArray[Any], IntArray]]:
    """Draw `count` batches by `draw` and encode them in chunks: codes [n, points, ..., D] and fixed factors [n].

    Raises `DeftError` if `encode` does not return a matrix with one row per point.
    """
    random = np.random.default_rng(seed)
    step = max(CHUNK // points, 1)
    for first in range(0, count, step):
        values, fixed = draw(sizes, min(step, count - first), points, random)
        yield encode_points(encode, values.reshape(-1, len(sizes))).reshape(*values.shape[:-1], -1), fixed


def encode_points(encode: Encoder, values: IntArray) -> NDArray[Any]:
    """Codes [N, D] of factor values [N, K] in one call; raises `DeftError` if they do not have this shape."""
    codes = np.asarray(as_numpy(encode(values)))
    if codes.ndim != 2 or len(codes) != len(values):
        raise DeftError(
            f"encode returns codes of shape {list(codes.shape)} for {len(values)} points: return a matrix [N, D] "
            "with one row per point."
        )
    return codes


def _drawn(sizes: Sequence[int], count: int, shape: tuple[int, ...], seed: Seed) -> tuple[IntArray, IntArray]:
    """Uniform factor values [count, *shape, K] and fixed factors [count].

    The value of the fixed factor is constant along the last axis of `shape`.
    """
    check_counts(count, shape[0])
    if any(int(size) != size or size < 1 for size in sizes) or not any(size > 1 for size in sizes):
        raise DeftError(
            f"sizes are {list(sizes)}: pass the number of values of each factor, at least one of them 2 or more."
        )
    random = np.random.default_rng(seed)
    choices = np.flatnonzero(np.asarray(sizes) > 1)
    fixed = choices[random.integers(len(choices), size=count)]
    values = np.empty((count, *shape, len(sizes)), dtype=np.int64)
    for k, size in enumerate(sizes):
        kind = np.uint16 if size <= 2**16 else np.int64  # 16-bit random numbers are faster
        drawn = random.integers(size, size=(count, *shape), dtype=kind)
        batches = fixed == k
        drawn[batches] = drawn[batches][..., :1]
        values[..., k] = drawn
    return values, fixed


Group = tuple[IntArray, IntArray, IntArray, IntArray]


def _drawn_rows(
    factors: Any, count: int, shape: tuple[int, ...], seed: Seed
) -> tuple[IntArray, IntArray, dict[int, Group], np.random.Generator]:
    """Rows [count, *shape], fixed factors [count], groups of each usable factor, and the generator.

    The value of the fixed factor is constant along the last axis of `shape`. A group consists of the rows with
    the same value of a factor. The groups of a factor are four arrays [N]: the rows sorted by value, and for
    each row its place in that order, the first place of its group, and the size of its group.
    """
    check_counts(count, shape[0])
    factors = as_factors(factors, len(factors))
    random = np.random.default_rng(seed)
    groups, usable = {}, {}
    for k, values in enumerate(factors.T):
        order = np.argsort(values, kind="stable")
        place = np.argsort(order)
        sizes = np.bincount(values)
        groups[k] = order, place, (np.cumsum(sizes) - sizes)[values], sizes[values]
        usable[k] = np.flatnonzero(sizes[values] > 1)
    choices = [k for k in groups if len(np.unique(factors[usable[k], k])) > 1]
    if not choices:
        raise DeftError("no factor has two values with at least two rows each: pass a larger table.")
    fixed = np.asarray(choices)[random.integers(len(choices), size=count)]
    rows = np.empty((count, *shape), dtype=np.int64)
    for k in choices:
        batches = np.flatnonzero(fixed == k)
        order, _, first, size = groups[k]
        start = random.choice(usable[k], size=(len(batches), *shape[:-1], 1))
        offset = random.integers(np.broadcast_to(size[start], (len(batches), *shape)))
        rows[batches] = order[first[start] + offset]
    return rows, fixed, {k: groups[k] for k in choices}, random


def check_counts(count: int, batch_size: int) -> None:
    """Raise `DeftError` if there is no batch, or fewer than two points per batch."""
    if count < 1 or batch_size < 2:
        raise DeftError(
            f"{count} batches of {batch_size} points are too few for a score: use at least 1 batch of 2 points."
        )

"""Batches in which one factor is fixed, as the FactorVAE and beta-VAE scores need: drawn from a grid, or from rows.

Many batches are drawn before they are encoded, so that an encoder sees few large chunks of points, or, where
batches are made of the rows of a table, every image once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deft_lightning.common.errors import DeftError
from deft_lightning.metrics._inputs import as_factors, as_numpy

Integers = NDArray[np.int64]
Encoder = Callable[[Integers], Any]
Seed = int | np.random.Generator

CHUNK = 8192  # points an encoder is given at once: enough to be efficient, few enough to hold their images


def draw_batches(sizes: Sequence[int], count: int, batch_size: int, seed: Seed) -> tuple[Integers, Integers]:
    """Factor values [count, batch_size, K] and the factor [count] that has one value throughout each batch.

    The fixed factor is uniform among those with more than one value, everything else uniform over the grid.
    Raises `DeftError` for sizes or counts that are not whole numbers above 0, and where no factor varies.
    """
    return _drawn(sizes, count, (batch_size,), seed)


def draw_pairs(sizes: Sequence[int], count: int, batch_size: int, seed: Seed) -> tuple[Integers, Integers]:
    """Factor values [count, batch_size, 2, K] and the factor [count] in which the points of each pair agree.

    Drawn, and raising, as `draw_batches`; the shared value is drawn afresh for every pair.
    """
    return _drawn(sizes, count, (batch_size, 2), seed)


def batches_of_rows(factors: Any, count: int, batch_size: int, seed: Seed) -> tuple[Integers, Integers]:
    """Rows [count, batch_size] of factors [N, K], and the factor [count] that has one value throughout each batch.

    For data without a grid: the fixed factor is uniform among those with a choice, its value is that of a row
    drawn uniformly, and the batch is drawn, with replacement, from the rows with that value; values that fewer
    than two rows have are passed over. Raises `DeftError` where no factor has a choice of such values.
    """
    rows, fixed, _, _ = _drawn_rows(factors, count, (batch_size,), seed)
    return rows, fixed


def pairs_of_rows(factors: Any, count: int, batch_size: int, seed: Seed) -> tuple[Integers, Integers]:
    """Rows [count, batch_size, 2] of factors [N, K], two different ones a pair, and the factor [count] they share.

    Drawn, and raising, as `batches_of_rows`, the shared value afresh for every pair.
    """
    rows, fixed, groups, random = _drawn_rows(factors, count, (batch_size, 1), seed)
    second = np.empty_like(rows)
    for k, (order, place, first, size) in groups.items():
        batches = np.flatnonzero(fixed == k)
        one = rows[batches]
        step = random.integers(1, size[one])  # at least one on in the group, at most back to just before itself
        second[batches] = order[first[one] + (place[one] - first[one] + step) % size[one]]
    return np.concatenate([rows, second], axis=2), fixed


def encoded(
    encode: Encoder,
    draw: Callable[..., tuple[Integers, Integers]],
    sizes: Sequence[int],
    count: int,
    points: int,
    seed: Seed,
) -> Iterator[tuple[NDArray[Any], Integers]]:
    """Codes [n, points, ..., D] and fixed factors [n] of `count` batches that `draw` makes, some at a time.

    Raises `DeftError` where `encode` does not give a matrix with one row a point.
    """
    random = np.random.default_rng(seed)
    step = max(CHUNK // points, 1)
    for first in range(0, count, step):
        values, fixed = draw(sizes, min(step, count - first), points, random)
        yield encode_points(encode, values.reshape(-1, len(sizes))).reshape(*values.shape[:-1], -1), fixed


def encode_points(encode: Encoder, values: Integers) -> NDArray[Any]:
    """Codes [N, D] of factor values [N, K] in one call; raises `DeftError` where they are no such matrix."""
    codes = np.asarray(as_numpy(encode(values)))
    if codes.ndim != 2 or len(codes) != len(values):
        raise DeftError(
            f"encode gave codes of shape {list(codes.shape)} for {len(values)} points: it must give "
            "a matrix [N, D], one row a point."
        )
    return codes


def _drawn(sizes: Sequence[int], count: int, shape: tuple[int, ...], seed: Seed) -> tuple[Integers, Integers]:
    """Uniform factor values [count, *shape, K], equal along the last axis of `shape` in the factor fixed, [count]."""
    check_counts(count, shape[0])
    if any(int(size) != size or size < 1 for size in sizes) or not any(size > 1 for size in sizes):
        raise DeftError(f"sizes are {list(sizes)}: give the number of values of every factor, one of them at least 2.")
    random = np.random.default_rng(seed)
    choices = np.flatnonzero(np.asarray(sizes) > 1)
    fixed = choices[random.integers(len(choices), size=count)]
    values = np.empty((count, *shape, len(sizes)), dtype=np.int64)
    for k, size in enumerate(sizes):
        kind = np.uint16 if size <= 2**16 else np.int64  # short random numbers are drawn faster
        drawn = random.integers(size, size=(count, *shape), dtype=kind)
        batches = fixed == k
        drawn[batches] = drawn[batches][..., :1]
        values[..., k] = drawn
    return values, fixed


Group = tuple[Integers, Integers, Integers, Integers]


def _drawn_rows(
    factors: Any, count: int, shape: tuple[int, ...], seed: Seed
) -> tuple[Integers, Integers, dict[int, Group], np.random.Generator]:
    """Rows [count, *shape] that agree in the fixed factors [count] along the last axis of `shape`; groups; generator.

    A factor's groups of equal value are four arrays [N]: rows sorted by value; each row's place there; its group's
    first place; its group's size.
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
        raise DeftError("no factor has two values that two rows each share: there are no batches to score on.")
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
    """Raise `DeftError` unless there is at least one batch of at least two points."""
    if count < 1 or batch_size < 2:
        raise DeftError(
            f"{count} batches of {batch_size} points cannot be scored: give at least 1 batch of at least 2."
        )

"""Whether a run learnt posX and posY on a latent each, or rotated by about 45 degrees, and in which stage."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from deft_lightning.report.loading import Record

POSITIONS = ("posX", "posY")
LEARNT = 0.15
"""The NMI with posX plus that with posY from which on a latent has learnt a position."""
NEARLY_EQUAL = 0.5
"""The lower NMI over the higher one from which on two NMI are nearly equal."""


class Alignment(StrEnum):
    """How the two latents that know most about the position divide it."""

    NOT_LEARNT = "not learnt"
    """One of the two latents knows less than `LEARNT`."""
    SEPARATE = "separate"
    ROTATED = "rotated"
    """Each of posX and posY has nearly equal NMI with both latents: their axes are rotated by 35 to 55 degrees."""


class Decided(NamedTuple):
    """How a run ended, and the stage, from 1, from the end of which on it was so."""

    alignment: Alignment
    stage: int


def alignment_of(nmi: Sequence[Sequence[float]], factors: Sequence[str]) -> Alignment | None:
    """How posX and posY are divided, from the NMI of latents and factors [D, K]; None without both factors.

    Of the latents, the two with the highest NMI(posX) + NMI(posY) are looked at. They are rotated where for both
    factors the lower of the two NMI is at least `NEARLY_EQUAL` times the higher. For two latents that encode a square
    of positions, rotated by an angle and with noise, that ratio is 0.1 at 15 degrees, 0.3 at 30, 0.5 at 35, 0.7 at 40
    and 1 at 45, nearly whatever the noise is.
    """
    matrix = np.asarray(nmi, float)
    if not set(POSITIONS) <= set(factors) or matrix.ndim != 2 or len(matrix) < 2 or matrix.shape[1] != len(factors):
        return None
    columns = matrix[:, [list(factors).index(name) for name in POSITIONS]]  # [D, 2]
    pair = columns[np.argsort(columns.sum(axis=1))[-2:]]  # [2 latents, 2 factors]
    if pair.sum(axis=1).min() < LEARNT:
        return Alignment.NOT_LEARNT
    equal = pair.min(axis=0) >= NEARLY_EQUAL * pair.max(axis=0)
    return Alignment.ROTATED if equal.all() else Alignment.SEPARATE


def decided(run: Record) -> Decided | None:
    """How the run ended, and since which stage; None without positions in the data, or without an NMI matrix."""
    factors = run.mapping("data").get("factors")
    if not isinstance(factors, list):
        return None
    stages = [(n, alignment_of(stage.get("nmi") or [], factors)) for n, stage in run.numbered_stages.items()]
    if not stages or (last := stages[-1][1]) is None:
        return None
    alike = itertools.takewhile(lambda stage: stage[1] == last, reversed(stages))
    return Decided(last, min(n for n, _ in alike))

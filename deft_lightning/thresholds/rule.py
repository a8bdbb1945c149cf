"""From thresholds of latents to stages and pressures, by one deterministic rule. Pure: numbers in, a schedule out.

A latent opens where beta falls below its threshold, so that a pressure between two clusters of thresholds
lets the upper ones learn and holds the lower ones back: this is how Table 1 is read off Fig. 6, there by eye and with
labels. Here the thresholds of all latents, from several seeds, are pooled and put in order.

0. A threshold below what the test can resolve, the fall of beta within its smoothing window, counts as that.
1. A gap is a ratio of at least `MIN_RATIO` between neighbours. The evidence is on a log scale, since what a latent
   must gain for every nat is a ratio.
2. What lies between two gaps is a cluster only if at least half of the seeds have a threshold in it; less is a stray
   of few seeds, however many latents these open at once. It joins the nearer neighbour, by ratio, and the gap between
   them is closed.
3. At most `MAX_STAGES` clusters remain: the narrowest gaps are closed first.
4. A cluster is a stage. Its pressure is the geometric mean of the two ends of the gap below it; the last stage's is 1.
5. The last stage takes three quarters of the steps, about what it has in Table 1 (65, 79 and 80%), the others share
   the rest equally.

A pressure is stable if every seed, of at least three, has thresholds on both of its sides. How many latents a seed
has above it is told, and may differ: annealed fast, one factor opens several latents at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from deft_lightning.common.errors import DeftError

MIN_RATIO = 1.5
MAX_STAGES = 4
LAST_SHARE = 0.75
STEPS = 265_000
"""Length of a proposed schedule in optimiser steps where the experiment has none: that of Table 1 for dSprites."""


@dataclass(frozen=True)
class Stage:
    """One proposed stage.

    `pressure`; the pooled `thresholds` that it lets through and the stage before did not, descending; for each seed
    `latents_above` and `latents_below`, how many of its thresholds lie above and below the pressure; and whether the
    pressure is `stable`, which the last one, that separates nothing, always is.
    """

    pressure: float
    thresholds: list[float]
    latents_above: list[int]
    latents_below: list[int]
    stable: bool


def propose_stages(thresholds: Sequence[Sequence[float | None]], resolution: float = 1.0) -> list[Stage]:
    """Stages from the `thresholds` of every latent, one list for each seed; see the rule above.

    `resolution` is the smallest beta that the tests tell from another.

    Raises `DeftError` when no latent of any seed has one.
    """
    seeds = [[max(value, resolution) for value in seed if value is not None] for seed in thresholds]
    pooled = sorted(((value, seed) for seed, values in enumerate(seeds) for value in values), reverse=True)
    if not pooled:
        raise DeftError(
            "no latent of any seed has an information threshold, so that there is nothing to separate: give the "
            "test more steps, or see whether the images differ at all."
        )
    found = _clusters(pooled, smallest=max(1, -(-len(seeds) // 2)))
    clusters = [[value for value, _ in cluster] for cluster in found]
    pressures = [float(f"{(upper[-1] * lower[0]) ** 0.5:.3g}") for upper, lower in pairwise(clusters)]
    stages: list[Stage] = []
    for cluster, pressure in zip(clusters, [*pressures, 1.0], strict=True):
        above = [sum(value > pressure for value in seed) for seed in seeds]
        below = [len(seed) - count for seed, count in zip(seeds, above, strict=True)]
        last = len(stages) == len(clusters) - 1
        stages.append(Stage(pressure, cluster, above, below, last or (len(seeds) >= 3 and min(*above, *below) > 0)))
    return stages


Cluster = list[tuple[float, int]]
"""Thresholds, descending, each with the number of its seed."""


def _clusters(pooled: Cluster, smallest: int) -> list[Cluster]:
    """`pooled` cut at its gaps; every cluster but an only one has thresholds of `smallest` seeds."""
    clusters = [[pooled[0]]]
    for above, member in pairwise(pooled):
        if above[0] / member[0] >= MIN_RATIO:
            clusters.append([])
        clusters[-1].append(member)

    def support(index: int) -> int:
        return len({seed for _, seed in clusters[index]})

    def ratio(gap: int) -> float:
        return clusters[gap][-1][0] / clusters[gap + 1][0][0]

    while len(clusters) > 1 and support(stray := min(range(len(clusters)), key=support)) < smallest:
        _close(clusters, min((gap for gap in (stray - 1, stray) if 0 <= gap < len(clusters) - 1), key=ratio))
    while len(clusters) > MAX_STAGES:
        _close(clusters, min(range(len(clusters) - 1), key=ratio))
    return clusters


def _close(clusters: list[Cluster], gap: int) -> None:
    clusters[gap : gap + 2] = [clusters[gap] + clusters[gap + 1]]


def lengths(stages: int, steps: int) -> list[int]:
    """Optimiser steps of every stage, rule 5; together `steps`."""
    if stages == 1:
        return [steps]
    early = round(steps * (1 - LAST_SHARE) / (stages - 1))
    return [early] * (stages - 1) + [steps - early * (stages - 1)]


def schedule(
    thresholds: Sequence[Sequence[float | None]], resolution: float, steps: int, steps_per_epoch: int
) -> dict[str, Any]:
    """`proposal` of thresholds.json: the stages, their pressures and lengths in steps and in epochs."""
    stages = propose_stages(thresholds, resolution)
    ends = lengths(len(stages), steps)
    return {
        "pressures": [stage.pressure for stage in stages],
        "epochs": [float(f"{length / steps_per_epoch:.6g}") for length in ends],
        "steps": ends,
        "stable": len(thresholds) >= 3 and all(stage.stable for stage in stages),
        "stages": [vars(stage) for stage in stages],
    }


def groups_for(latents: int, stages: int) -> list[int]:
    """Latents of as many groups as there are stages, the first groups one more where they do not divide."""
    share, more = divmod(latents, stages)
    return [share + (group < more) for group in range(stages)]


def notices(proposal: dict[str, Any]) -> list[str]:
    """What the user must know of the evidence: one sentence for everything that is not firm."""
    stages = proposal["stages"]
    seeds = len(stages[0]["latents_above"])
    found = []
    if len(stages) == 1:
        found.append("no gap separates the thresholds: one stage under pressure 1, a plain VAE, is all they support.")
    if seeds < 3:
        found.append(f"{seeds} seed(s) are no evidence that another seed gives the same: n=5 is.")
    for index, stage in enumerate(stages, start=1):
        if seeds >= 3 and not stage["stable"]:
            sides = zip(stage["latents_above"], stage["latents_below"], strict=True)
            lacking = sum(min(counts) == 0 for counts in sides)
            found.append(
                f"the pressure of stage {index}, {stage['pressure']:g}, is unstable: {lacking} of {seeds} seeds have "
                "no thresholds on both of its sides; more steps or seeds may settle it."
            )
    return found


def spread(stage: dict[str, Any]) -> str:
    """The thresholds of a stage as a range, for a table."""
    values = np.array(stage["thresholds"])
    return f"{values.min():.1f} to {values.max():.1f}"

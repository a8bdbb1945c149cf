"""The rule that turns thresholds of latents into stages and pressures. Pure and deterministic.

A latent begins to pass information when beta falls below its threshold. So a pressure between two clusters of
thresholds lets the latents of the upper cluster learn and keeps those of the lower cluster at the prior. Table 1 was
read off Fig. 6 in this way, by eye and with labels. Here the thresholds of all latents of all seeds are pooled and
sorted.

0. A threshold below the resolution of the test, the change of beta within its smoothing window, is set to the
   resolution.
1. A gap is a ratio of at least `MIN_RATIO` between neighbours. Ratios are compared because the KL of a latent depends
   on the logarithm of beta.
2. What lies between two gaps is a cluster if it has thresholds of at least half of the seeds. Otherwise it is merged
   into its nearer neighbour, by ratio.
3. At most `MAX_STAGES` clusters remain: the narrowest gaps are closed first.
4. Each cluster is a stage. Its pressure is the geometric mean of the two ends of the gap below it; that of the last
   stage is 1.
5. The last stage takes three quarters of the steps, about as many as in Table 1 (65, 79 and 80%). The other stages
   share the rest equally.

A pressure is stable if there are at least three seeds and each of them has thresholds above and below it. The number
of latents above it may differ between seeds: in a fast anneal test, one factor may open several latents at once.
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
"""Optimiser steps of a proposed schedule when the experiment has no length of its own: as Table 1 has for dSprites."""


@dataclass(frozen=True)
class ProposedStage:
    """One proposed stage, with the evidence for its `pressure`.

    `thresholds` are those of its cluster, descending. `latents_above` and `latents_below` count, for each seed, the
    thresholds above and below the pressure. The pressure of the last stage separates nothing and is always `stable`.
    """

    pressure: float
    thresholds: list[float]
    latents_above: list[int]
    latents_below: list[int]
    stable: bool


def propose_stages(thresholds: Sequence[Sequence[float | None]], resolution: float = 1.0) -> list[ProposedStage]:
    """Stages from the `thresholds` of every latent, one list for each seed, by the rule above.

    `resolution` is the change of beta within the smoothing window of the tests. Raises `DeftError` when no latent of
    any seed has a threshold.
    """
    seeds = [[max(value, resolution) for value in seed if value is not None] for seed in thresholds]
    pooled = sorted(((value, seed) for seed, values in enumerate(seeds) for value in values), reverse=True)
    if not pooled:
        raise DeftError(
            "no latent of any seed has an information threshold, so there is nothing to separate: use more steps, or "
            "check that the images differ."
        )
    members = _clusters(pooled, least_seeds=max(1, -(-len(seeds) // 2)))
    clusters = [[value for value, _ in cluster] for cluster in members]
    pressures = [float(f"{(upper[-1] * lower[0]) ** 0.5:.3g}") for upper, lower in pairwise(clusters)]
    stages: list[ProposedStage] = []
    for cluster, pressure in zip(clusters, [*pressures, 1.0], strict=True):
        above = [sum(value > pressure for value in seed) for seed in seeds]
        below = [len(seed) - count for seed, count in zip(seeds, above, strict=True)]
        last = len(stages) == len(clusters) - 1
        stable = last or (len(seeds) >= 3 and min(*above, *below) > 0)
        stages.append(ProposedStage(pressure, cluster, above, below, stable))
    return stages


Cluster = list[tuple[float, int]]
"""Thresholds, descending, each with the index of its seed."""


def _clusters(pooled: Cluster, least_seeds: int) -> list[Cluster]:
    """`pooled` cut at its gaps into clusters with thresholds of `least_seeds` seeds each, or into a single one."""
    clusters = [[pooled[0]]]
    for above, member in pairwise(pooled):
        if above[0] / member[0] >= MIN_RATIO:
            clusters.append([])
        clusters[-1].append(member)

    def support(index: int) -> int:
        return len({seed for _, seed in clusters[index]})

    def ratio(gap: int) -> float:
        return clusters[gap][-1][0] / clusters[gap + 1][0][0]

    while len(clusters) > 1 and support(weakest := min(range(len(clusters)), key=support)) < least_seeds:
        _close(clusters, min((gap for gap in (weakest - 1, weakest) if 0 <= gap < len(clusters) - 1), key=ratio))
    while len(clusters) > MAX_STAGES:
        _close(clusters, min(range(len(clusters) - 1), key=ratio))
    return clusters


def _close(clusters: list[Cluster], gap: int) -> None:
    """Merge the clusters `gap` and `gap` + 1."""
    clusters[gap : gap + 2] = [clusters[gap] + clusters[gap + 1]]


def lengths(stages: int, steps: int) -> list[int]:
    """Optimiser steps of every stage, by rule 5; their sum is `steps`."""
    if stages == 1:
        return [steps]
    early = round(steps * (1 - LAST_SHARE) / (stages - 1))
    return [early] * (stages - 1) + [steps - early * (stages - 1)]


def propose_schedule(
    thresholds: Sequence[Sequence[float | None]], resolution: float, steps: int, steps_per_epoch: int
) -> dict[str, Any]:
    """`proposal` of thresholds.json: the stages, their pressures, and their lengths in steps and epochs."""
    stages = propose_stages(thresholds, resolution)
    stage_steps = lengths(len(stages), steps)
    return {
        "pressures": [stage.pressure for stage in stages],
        "epochs": [float(f"{length / steps_per_epoch:.6g}") for length in stage_steps],
        "steps": stage_steps,
        "stable": len(thresholds) >= 3 and all(stage.stable for stage in stages),
        "stages": [vars(stage) for stage in stages],
    }


def groups_for(latents: int, stages: int) -> list[int]:
    """`latents` divided among as many groups as there are stages; the first groups take what does not divide evenly."""
    share, rest = divmod(latents, stages)
    return [share + (group < rest) for group in range(stages)]


def notices(proposal: dict[str, Any]) -> list[str]:
    """What the user should know about the evidence: one sentence for each weakness."""
    stages = proposal["stages"]
    seeds = len(stages[0]["latents_above"])
    sentences = []
    if len(stages) == 1:
        sentences.append(
            "no gap separates the thresholds: they support a single stage under pressure 1, which is a plain VAE."
        )
    if seeds < 3:
        sentences.append(f"{seeds} seed(s) cannot show whether other seeds give the same stages: use n=5.")
    for index, stage in enumerate(stages, start=1):
        if seeds >= 3 and not stage["stable"]:
            sides = zip(stage["latents_above"], stage["latents_below"], strict=True)
            lacking = sum(min(counts) == 0 for counts in sides)
            sentences.append(
                f"the pressure of stage {index}, {stage['pressure']:g}, is unstable: {lacking} of {seeds} seeds do not "
                "have thresholds both above and below it; try more steps or seeds."
            )
    return sentences


def spread(stage: dict[str, Any]) -> str:
    """The range of the thresholds of a stage, for a table."""
    values = np.array(stage["thresholds"])
    return f"{values.min():.1f} to {values.max():.1f}"

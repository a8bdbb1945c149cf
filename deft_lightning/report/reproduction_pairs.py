"""Methods compared over the seeds of both: DEFT against every other, and pressures that were found without labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from deft_lightning.report import paper
from deft_lightning.report.committed import BETA_VAE, Group, groups, markdown, median
from deft_lightning.report.loading import Record
from deft_lightning.report.statistics import Paired, paired

WITHOUT_LABELS = ("DEFT, schedule=auto", "DEFT, schedule=distil")
"""Runs whose pressures were found without labels."""


def pair_table(runs: Sequence[Record]) -> str:
    """DEFT against every other method on the same data, over the seeds of both."""
    rows = []
    scored = groups([run for run in runs if run.finished and "mig" in run.scores])
    for deft in (group for group in scored if group.label == "DEFT"):
        for other in (group for group in scored if group.label != "DEFT" and _alike(group) == _alike(deft)):
            pairs, count = _paired(deft, other)
            if pairs is None:
                continue
            rows.append(
                [other.images, paper.shown(other.method), other.steps, other.arithmetic, str(count), _interval(pairs),
                 f"{pairs.deviation:.3f}", f"{pairs.needed:,}" if pairs.low > 0 or pairs.high < 0 else ""]
            )  # fmt: skip
    columns = ["data", "method", "steps", "precision", "seeds", "DEFT's MIG minus the method's, mean (95%)",
               "standard deviation", "seeds needed"]  # fmt: skip
    return markdown(columns, rows)


def schedule_table(runs: Sequence[Record]) -> str:
    """Pressures found without labels, against those of Table 1 over the same seeds, and a beta-VAE."""
    rows = []
    for compared in _schedules(runs):
        reference = next((group for group in compared if group.label == "DEFT"), None)
        for group in compared:
            pairs = _paired(group, reference)[0] if reference not in (None, group) else None
            rows.append(
                [group.images, paper.shown(group.method), group.steps, group.arithmetic, str(group.count),
                 group.failures, median(group.scores("mig")), "" if pairs is None else _interval(pairs)]
            )  # fmt: skip
    columns = ["data", "method", "steps", "precision", "runs", "MIG below 0.1 (95%)", "median MIG (95%)",
               "MIG, less that of Table 1's pressures (95%)"]  # fmt: skip
    return markdown(columns, rows)


def schedule_seeds(runs: Sequence[Record]) -> str:
    """MIG and the gap of every factor, max-1 minus max-2 NMI, of the runs in `schedule_table`."""
    compared = [(group, run) for members in _schedules(runs) for group in members for run in group.runs]
    factors = list(dict.fromkeys(factor for _, run in compared for factor in run.gaps))
    rows = [
        [group.images, paper.shown(group.method), str(run.seed), f"{run.scores['mig']:.3f}",
         *(f"{run.gaps[factor]:.2f}" if factor in run.gaps else "" for factor in factors)]
        for group, run in compared
    ]  # fmt: skip
    return markdown(["data", "method", "seed", "MIG", *(f"gap of {factor}" for factor in factors)], rows)


def _schedules(runs: Sequence[Record]) -> list[list[Group]]:
    """For data, length and arithmetic of runs `WITHOUT_LABELS`: these, DEFT and beta-VAE, over the seeds of the first.

    Only runs that finished with a MIG.
    """
    alike: dict[tuple[str, ...], list[Group]] = {}
    for group in groups([run for run in runs if run.finished and "mig" in run.scores]):
        if group.label in ("DEFT", *WITHOUT_LABELS) or group.method == BETA_VAE:
            alike.setdefault(_alike(group), []).append(group)
    compared = []
    for members in alike.values():
        seeds = {run.seed for group in members if group.label in WITHOUT_LABELS for run in group.runs}
        common = [replace(g, runs=tuple(run for run in g.runs if run.seed in seeds)) for g in members]
        compared.append([group for group in common if group.runs])
    return [members for members in compared if members]


def _alike(group: Group) -> tuple[str, ...]:
    """What two groups must have in common to be compared."""
    return group.data, group.source, group.steps, group.arithmetic


def _paired(group: Group, other: Group) -> tuple[Paired | None, int]:
    """MIG of `group` minus that of `other` over the seeds of both, and their number; None for fewer than two seeds.

    All runs must have a MIG.
    """
    first, second = ({run.seed: run.scores["mig"] for run in member.runs} for member in (group, other))
    seeds = sorted(first.keys() & second.keys(), key=str)
    if len(seeds) < 2:
        return None, len(seeds)
    return paired([first[seed] for seed in seeds], [second[seed] for seed in seeds]), len(seeds)


def _interval(pairs: Paired) -> str:
    return f"{pairs.mean:+.3f} ({pairs.low:+.3f} to {pairs.high:+.3f})"

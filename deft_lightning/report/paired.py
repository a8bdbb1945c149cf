"""Methods compared over the same seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from deft_lightning.report import paper, statistics
from deft_lightning.report.study import Study
from deft_lightning.report.table import Table, as_range, table_of


def paired(study: Study) -> Table:
    """Differences of methods over the same seeds, in MIG and the gap of every factor, at the best swept value."""
    columns = ["Data", "A", "B", "Measure", "Seeds", "Mean A", "Mean B", "A - B", "Low", "High", "Seeds needed",
               "Reading"]  # fmt: skip
    rows = []
    best = study.compared[study.compared["best"]] if len(study.compared) else study.compared
    for data in study.data:
        values = {
            method: _by_seed(study, best[(best["data"] == data) & (best["method"] == method)])
            for method in study.methods
        }
        for a, b in combinations([method for method in study.methods if values[method]], 2):
            for measure in values[a]:
                seeds = sorted(values[a][measure].keys() & values[b].get(measure, {}).keys())
                if len(seeds) < 2:
                    continue
                x, y = ([values[method][measure][seed] for seed in seeds] for method in (a, b))
                result = statistics.paired(x, y)
                reading = (
                    "no difference shown" if result.low <= 0 <= result.high else f"{a if result.mean > 0 else b} higher"
                )
                rows.append(
                    [data, a, b, measure, len(seeds), float(np.mean(x)), float(np.mean(y)), *result[:3], result.needed,
                     reading]
                )  # fmt: skip
    frame = pd.DataFrame(rows, columns=columns)
    printed = frame.drop(columns=["Low", "High"]).copy()
    printed.insert(
        8, "95% of A - B", [as_range(low, high) for low, high in zip(frame["Low"], frame["High"], strict=True)]
    )
    return table_of("paired", frame, printed, study.shown)


def is_higher(ours: ArrayLike, theirs: ArrayLike) -> bool:
    """Whether the 95% interval of the mean paired difference lies above 0, of at least two pairs."""
    return statistics.paired(ours, theirs).low > 0


def is_lower(ours: ArrayLike, theirs: ArrayLike) -> bool:
    """Whether the 95% interval of the mean paired difference lies below 0, of at least two pairs."""
    return statistics.paired(ours, theirs).high < 0


def fails_less(ours: ArrayLike, theirs: ArrayLike) -> bool:
    """Whether fewer fail, by McNemar's exact test; values are 1 for failed runs, else 0.

    A t interval of such differences has no width where all pairs agree, and would exclude 0 after two pairs.
    """
    return float(np.sum(ours)) < float(np.sum(theirs)) and statistics.mcnemar(ours, theirs) < 1 - statistics.LEVEL


def leader(
    values: Mapping[str, Mapping[int, float]], better: Callable[[ArrayLike, ArrayLike], bool] = is_higher
) -> str | None:
    """The method that is better than every other one over their common seeds, of which it needs two; else None.

    `values` are those of one measure by method and seed; `better` compares the values of two methods, seed by seed.
    """
    for method, ours in values.items():
        others = [theirs for name, theirs in values.items() if name != method]
        if others and all(_is_better(ours, theirs, better) for theirs in others):
            return method
    return None


def _is_better(
    ours: Mapping[int, float], theirs: Mapping[int, float], better: Callable[[ArrayLike, ArrayLike], bool]
) -> bool:
    seeds = sorted(ours.keys() & theirs.keys())
    return len(seeds) > 1 and better([ours[seed] for seed in seeds], [theirs[seed] for seed in seeds])


def _by_seed(study: Study, rows: pd.DataFrame) -> dict[str, dict[int, float]]:
    """MIG, and the gap between the two highest NMI of every factor, by measure and seed."""
    values: dict[str, dict[int, float]] = defaultdict(dict)
    for i in rows.index:
        run = study.runs[i]
        if run.seed is None or "mig" not in run.scores:
            continue
        values[paper.score_label("mig")][run.seed] = run.scores["mig"]
        for factor, gap in run.gaps.items():
            values[f"gap of {factor}"][run.seed] = gap
    return {name: values[name] for name in sorted(values, key=lambda name: (name != paper.score_label("mig"), name))}

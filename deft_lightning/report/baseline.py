"""Two studies compared: every score before and after a change of code, over the same methods, data and seeds."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pandas as pd

from deft_lightning.report import paper, statistics, swept
from deft_lightning.report.loading import Record
from deft_lightning.report.study import DataKey, Study, data_key
from deft_lightning.report.table import NONE, Table, as_range, table_of

FAILED = "Failed runs"
"""The share of runs with a MIG below 0.1 or that diverged, as a score."""

COLUMNS = ("Data", "Method", "Value", "Score", "Paired over", "Runs", "Baseline runs", "Mean", "Baseline mean",
           "Difference", "Low", "High", "Reading")  # fmt: skip


def differences(study: Study, baseline: Study) -> Table:
    """The difference of every score between two studies, as `study` minus `baseline`, with its 95% interval.

    Runs of one method with the same `DataKey` at one swept value are compared, over the seeds
    that both studies have where there are two or more (Student's t), else as two samples (Welch's). Shares of failed
    runs have no interval, but an exact test: McNemar's over the same seeds, else Fisher's.
    """
    ours, theirs = _runs(study), _runs(baseline)
    rows = []
    for data in dict.fromkeys(data_key(study.runs[i]) for i in study.ended.index):
        for method in study.methods:
            if (data, method) not in ours or (data, method) not in theirs:
                continue
            new, old = ours[data, method], theirs[data, method]
            names = dict.fromkeys([*swept.fields(new), *swept.fields(old)])
            for value in dict.fromkeys(swept.value(run, names) for run in new):
                same = [[run for run in runs if swept.value(run, names) == value] for runs in (new, old)]
                rows += [[study.label(new[0]), method, value, *row] for row in _compared(*same)]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    printed = frame.drop(columns=["Low", "High"])
    interval = [as_range(low, high) for low, high in zip(frame["Low"], frame["High"], strict=True)]
    printed.insert(10, "95% of the difference", interval)
    return table_of("baseline", frame, printed)


def lines(table: Table) -> list[str]:
    """One line for each difference."""
    said = []
    for row in table.printed.to_dict("records"):
        what = ", ".join(part for part in (row["Data"], row["Method"], row["Value"]) if part)
        interval = row["95% of the difference"]
        said.append(
            f"{what}: {row['Score']} {row['Baseline mean']} -> {row['Mean']}, difference {row['Difference']}"
            + ("" if interval == NONE else f" (95% {interval})")
            + f", {row['Paired over']}: {row['Reading']}"
        )
    return said


def _runs(study: Study) -> dict[tuple[DataKey, str], list[Record]]:
    """The runs that count, by data and method."""
    runs: dict[tuple[DataKey, str], list[Record]] = defaultdict(list)
    for i in study.ended.index:
        run = study.runs[i]
        runs[data_key(run), run.method.label].append(run)
    return runs


def _compared(new: Sequence[Record], old: Sequence[Record]) -> list[list[object]]:
    """The cells of every score that both have, from "Score" on."""
    rows: list[list[object]] = []
    ours, theirs = _by_score(new), _by_score(old)
    for score in [*paper.score_order(set(ours) - {FAILED}), FAILED]:
        x, y = ours.get(score, {}), theirs.get(score, {})
        if not x or not y or (score == FAILED and not any([*x.values(), *y.values()])):
            continue
        shared = sorted(x.keys() & y.keys(), key=str)
        together = len(shared) > 1 or len(shared) == len(x) == len(y)
        keys = (shared, shared) if together else (list(x), list(y))
        first, second = ([values[key] for key in some] for values, some in zip((x, y), keys, strict=True))
        how = f"{len(shared)} seed{'s' if len(shared) > 1 else ''}" if together else "not paired"
        means = float(np.mean(first)), float(np.mean(second))
        shown: bool | None
        if score == FAILED:
            low, high = statistics.NO_INTERVAL
            shown = (statistics.mcnemar if together else statistics.fisher)(first, second) < 1 - statistics.LEVEL
        else:
            low, high = _interval(first, second, together)
            shown = None if math.isnan(low) else not low <= 0 <= high
        rows.append(
            [FAILED if score == FAILED else paper.score_label(score), how, len(first), len(second), *means,
             means[0] - means[1], low, high, _reading(first, second, shown)]
        )  # fmt: skip
    return rows


def _interval(new: Sequence[float], old: Sequence[float], together: bool) -> tuple[float, float]:
    """95% interval of the difference of the means; NaN for a single pair."""
    if not together:
        return statistics.unpaired(new, old)
    return statistics.paired(new, old)[1:3] if len(new) > 1 else statistics.NO_INTERVAL


def _by_score(runs: Sequence[Record]) -> dict[str, dict[int | str, float]]:
    """The values of every score by seed; a run without a seed by its folder."""
    values: dict[str, dict[int | str, float]] = defaultdict(dict)
    for run in runs:
        key = str(run.folder) if run.seed is None else run.seed
        for score, value in (run.scores if run.finished else {}).items():
            values[score][key] = value
        if run.diverged or "mig" in run.scores:
            values[FAILED][key] = float(run.diverged or run.scores["mig"] < paper.FAILED_BELOW)
    return values


def _reading(new: Sequence[float], old: Sequence[float], shown: bool | None) -> str:
    """What the numbers say; `shown` is whether they show a difference, None where nothing tells."""
    if list(new) == list(old):
        return "the same numbers"
    if shown is None:
        return "no interval"
    if not shown:
        return "no difference shown"
    return "higher" if np.mean(new) > np.mean(old) else "lower"

"""The tables of the report that are made of a study."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from deft_lightning.common.checks import is_number
from deft_lightning.common.results import Status
from deft_lightning.report import paper, statistics
from deft_lightning.report.loading import Record
from deft_lightning.report.study import Study
from deft_lightning.report.swept import as_text
from deft_lightning.report.table import NONE, Table, as_number, as_p_value, as_range, table_of

Cell = tuple[str, str]
"""Label of the data set, and label of the method."""

ORDER = (Status.DIVERGED, Status.FAILED, Status.INTERRUPTED, Status.RUNNING, Status.STARTING)
"""The statuses at the head of the table of runs; any other follows, and finished runs come last."""
RUN_NUMBERS = {
    "Minutes": ".1f",
    "Steps": ",.0f",
    "Seed": ".0f",
    "Images/s": ",.0f",
    "Memory (MB)": ",.0f",
    "Threads": ".0f",
}
"""Formats of numbers in the table of runs; one that is not recorded is an empty cell."""
FAILURE_COLUMNS = 10
"""Columns of the printed Table 2, before those about runs that diverged."""
PIECEWISE = ("epochs", "pressures")


def settings(study: Study) -> Table:
    """Table 1 as it was run: groups, epochs and pressures of the methods with stages, compared with the paper's."""
    rows: dict[tuple[Any, ...], int] = {}
    for i in study.compared.index:
        run = study.runs[i]
        schedule, groups = run.mapping("training", "schedule"), run.mapping("training", "groups")
        if not isinstance(schedule.get("pressures"), list):
            continue
        epochs, pressures = (as_text(schedule.get(key)) for key in PIECEWISE)
        published = paper.table_1().get(run.dataset)
        paper_row = published and [str(len(published["latents"])), *map(as_text, map(published.get, PIECEWISE))]
        latents = groups.get("latents")
        ours = [str(len(latents)) if isinstance(latents, list) else NONE, epochs, pressures]
        key = (
            study.label(run), run.method.label, *ours, as_text(groups.get("gamma")),
            as_text(run.value("training", "batch_size")), as_text(run.value("training", "lr")), run.scale or NONE,
            NONE if not paper_row or run.method.label != "DEFT" else "yes" if ours == paper_row else "no",
        )  # fmt: skip
        rows[key] = rows.get(key, 0) + 1
    columns = ["Data", "Method", "Groups", "Epochs", "Pressures", "gamma", "Batch", "lr", "Steps run", "As in Table 1"]
    frame = pd.DataFrame([(*key, count) for key, count in rows.items()], columns=[*columns, "Runs"])
    return table_of("table_1_settings", _ordered(frame, study))


def failures(study: Study) -> Table:
    """Table 2: how often MIG is below 0.1 or the run diverged, with 95% Wilson intervals, and the paper's numbers.

    Where runs diverged, the rates without them stand beside.
    """
    pooled, best = study.outcomes(best=False), study.outcomes()
    readings = ["", " at best", ", diverged left out", " at best, diverged left out"]
    columns = ["Data", "Method", "Best value", "Diverged", "Diverged at best", "Paper (%)"]
    for reading in readings:
        columns += [f"Runs{reading}", f"Failed{reading} (%)", f"Low{reading}", f"High{reading}"]
    rows, printed = [], []
    for data, method in pooled:
        everything, at_best = pooled[data, method], best[data, method]
        value = study.best_value(data, method) or NONE
        published = paper.failure_rate(method, str(everything["dataset"].iloc[0]))
        diverged = [int(runs["diverged"].sum()) for runs in (everything, at_best)]
        rates = [_failure_rate(runs) for runs in (everything, at_best)]
        without = [_failure_rate(runs[~runs["diverged"]]) for runs in (everything, at_best)]
        rows.append([data, method, value, *diverged, published, *(x for rate in (*rates, *without) for x in rate)])
        printed.append(
            [data, method, rates[0][0], *_printed_rate(rates[0]), value, rates[1][0], *_printed_rate(rates[1]),
             NONE if published is None else f"{published:.1f}",
             *(x for count, rate in zip(diverged, without, strict=True) for x in (count, _without(count, rate)))]
        )  # fmt: skip
    short = ["Data", "Method", "Runs", "Failed, all values (%)", "95% interval", "Best value", "Runs at it",
             "Failed at it (%)", "95% interval at it", "Paper (%)", "Diverged", "Failed without them (%)",
             "Diverged at it", "Failed at it without them (%)"]  # fmt: skip
    shown = pd.DataFrame(printed, columns=short)
    if not shown["Diverged"].any():
        shown = shown[short[:FAILURE_COLUMNS]]
    return table_of("table_2_failures", pd.DataFrame(rows, columns=columns), shown, study.shown)


def summary(study: Study) -> Table:
    """Mean and median of every score, with 95% intervals, per method and data set at the best swept value."""
    columns = ["Score", "Data", "Method", "Runs", "Mean", "Mean low", "Mean high", "Median", "Median low",
               "Median high", "Lowest", "Highest"]  # fmt: skip
    rows = [
        [paper.score_label(score), data, method, len(x), x.mean(), *statistics.mean_interval(x), x.median(),
         *statistics.median_interval(x), x.min(), x.max()]
        for score in study.scores
        for (data, method), x in study.cells(score).items()
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=columns)
    printed = pd.DataFrame(
        [
            [
                *r[:4],
                as_number(r[4]),
                as_range(r[5], r[6]),
                as_number(r[7]),
                as_range(r[8], r[9]),
                as_range(r[10], r[11]),
            ]
            for r in rows
        ],
        columns=["Score", "Data", "Method", "Runs", "Mean", "95% of mean", "Median", "95% of median", "Range"],
    )
    return table_of("scores", frame, printed, study.shown)


def comparisons(study: Study) -> Table:
    """Rank tests and effect sizes of all pairs of methods, p corrected over the pairs of a score on a data set."""
    columns = ["Score", "Data", "A", "B", "Runs A", "Runs B", "Median A", "Median B", "P(A > B)", "Cliff's delta",
               "p", "p (Holm)", "p of all (Kruskal-Wallis)", "Reading"]  # fmt: skip
    rows = []
    for score in study.scores:
        cells = study.cells(score)
        for keys in _comparable(study, score, cells):
            data = keys[0][0]
            samples = {method: cells[data, method].to_numpy() for _, method in keys}
            overall = statistics.kruskal(list(samples.values()))
            tests = statistics.compare_all(samples)
            corrected = statistics.holm([test.p for test in tests.values()])
            for ((a, b), test), p in zip(tests.items(), corrected, strict=True):
                x, y = samples[a], samples[b]
                rows.append(
                    [paper.score_label(score), data, a, b, len(x), len(y), float(np.median(x)), float(np.median(y)),
                     test.superiority, test.cliffs_delta, test.p, p, overall, _reading(a, b, test.superiority, p)]
                )  # fmt: skip
    frame = pd.DataFrame(rows, columns=columns)
    printed = frame.drop(columns=["p"]).copy()
    for column in ("Median A", "Median B", "P(A > B)", "Cliff's delta"):
        printed[column] = [as_number(x) for x in frame[column]]
    for column in ("p (Holm)", "p of all (Kruskal-Wallis)"):
        printed[column] = [as_p_value(x) for x in frame[column]]
    return table_of("comparisons", frame, printed, study.shown)


def _comparable(study: Study, score: str, cells: Iterable[Cell]) -> list[list[Cell]]:
    """The cells on one data set; of the reconstruction error those of one likelihood."""
    groups: dict[tuple[str, str], list[Cell]] = {}
    for data, method in cells:
        likelihood = study.methods[method].likelihood if score == "reconstruction" else ""
        groups.setdefault((data, likelihood), []).append((data, method))
    return list(groups.values())


def udr(study: Study) -> Table:
    """UDR of each method: the run that a choice without labels takes, and its MIG."""
    scores = {i: study.runs[i].value("udr", "score") for i in study.compared.index}
    ranked = study.compared.loc[[i for i, score in scores.items() if is_number(score)]].copy()
    columns = ["Data", "Method", "Runs with UDR", "Median UDR", "Highest UDR", "Chosen run", "Its MIG", "Median MIG",
               "Highest MIG"]  # fmt: skip
    if not len(ranked):
        return table_of("udr", pd.DataFrame(columns=columns))
    if "mig" not in ranked:  # data without labels, which UDR is for
        ranked["mig"] = math.nan
    ranked["udr"] = [scores[i] for i in ranked.index]
    rows = []
    for (data, method), group in ranked.groupby(["data", "method"]):
        chosen = group["udr"].idxmax()
        value, seed = group.at[chosen, "value"], study.runs[chosen].seed
        rows.append(
            [data, method, len(group), group["udr"].median(), group["udr"].max(),
             f"{value}, seed {seed}" if value else f"seed {seed}", group.at[chosen, "mig"], group["mig"].median(),
             group["mig"].max()]
        )  # fmt: skip
    return table_of("udr", _ordered(pd.DataFrame(rows, columns=columns), study), shown=study.shown)


def proposals(study: Study) -> Table:
    """Pressures proposed without labels, compared with those of Table 1."""
    columns = ["Data", "Seeds", "Pressures", "Epochs", "Stable", "Pressures of Table 1"]
    rows = []
    for record in study.thresholds:
        proposal, published = record.mapping("proposal"), paper.table_1().get(record.dataset)
        if record.text("kind") != "proposal" or not proposal:
            continue
        seeds = record.value("seeds")
        rows.append(
            [study.label(record), len(seeds) if isinstance(seeds, list) else seeds,
             *(as_text(proposal.get(key)) for key in ("pressures", "epochs")),
             "yes" if proposal.get("stable") else "no", as_text(published["pressures"]) if published else None]
        )  # fmt: skip
    return table_of("proposals", pd.DataFrame(rows, columns=columns))


def runs(study: Study, out: Path) -> Table:
    """All runs, the finished ones last: method, status, scores, and the folder relative to `out`."""
    values = study.ended["value"].to_dict() if len(study.ended) else {}
    rows = [_run_row(study, values.get(i), run, out) for i, run in enumerate(study.runs)]
    methods = paper.method_order({run.method.label for run in study.runs})
    labels = list(study.labels.values())

    def place(row: dict[str, Any]) -> tuple[Any, ...]:
        seed = -1 if row["Seed"] is None else row["Seed"]
        status = row["Status"]
        end = ORDER.index(status) if status in ORDER else len(ORDER) + (status == Status.FINISHED)
        return end, labels.index(row["Data"]), methods.index(row["Method"]), row["Value"], seed, row["Folder"]

    frame = pd.DataFrame(sorted(rows, key=place), columns=None if rows else list(RUN_NUMBERS))
    printed = frame.copy()
    for column, form in RUN_NUMBERS.items():
        printed[column] = ["" if pd.isna(x) else format(x, form) for x in frame[column]]
    return table_of("runs", frame, printed)


def _run_row(study: Study, value: str | None, run: Record, out: Path) -> dict[str, Any]:
    """The row of one run; `value` are its swept settings, None where no table counts it."""
    seconds = run.number("timings", "train_seconds")
    row = {
        "Status": run.status, "Method": run.method.label, "Data": study.label(run), "Source": run.source,
        "Seed": run.seed, "Value": value or "",
        "Counts": "no" if value is None else "as failed" if run.diverged else "yes",
        "MIG": run.scores.get("mig"), "Reconstruction": run.scores.get("reconstruction"),
        "Steps": run.number("steps"), "Minutes": None if seconds is None else round(seconds / 60, 1),
        "Images/s": run.number("images_per_second"), "Memory (MB)": run.number("peak_memory_mb"),
        "Precision": run.text("precision") or "", "Device": run.text("device") or "",
        "Threads": run.number("threads"), "Experiment": run.name, "Package": run.text("versions", "deft_lightning"),
        "Torch": run.text("versions", "torch"), "Commit": ", ".join(commit[:8] for commit in run.commits),
        "Started": run.text("started"), "Reason": run.text("reason") or "",
        "Folder": Path(os.path.relpath(run.folder, out)).as_posix(),
    }  # fmt: skip
    return row | {score: x for score, x in run.scores.items() if score not in ("mig", "reconstruction")}


def _ordered(frame: pd.DataFrame, study: Study) -> pd.DataFrame:
    """The rows in the order of data sets and methods."""
    data, methods = study.data, list(study.methods)
    places = [data.index(d) * 1000 + methods.index(m) for d, m in zip(frame["Data"], frame["Method"], strict=True)]
    return frame.iloc[np.argsort(places, kind="stable")].reset_index(drop=True)


def _failure_rate(runs: pd.DataFrame) -> tuple[int, float, float, float]:
    """Number of runs, percent of them that failed, and the ends of its interval; NaN without runs."""
    if not len(runs):
        return 0, math.nan, math.nan, math.nan
    failed = int(runs["diverged"].sum())
    if "mig" in runs:
        failed += int((runs["mig"] < paper.FAILED_BELOW).sum())
    low, high = statistics.wilson(failed, len(runs))
    return len(runs), 100 * failed / len(runs), 100 * low, 100 * high


def _printed_rate(rate: tuple[int, float, float, float]) -> tuple[str, str]:
    return f"{rate[1]:.1f}", f"{rate[2]:.1f} to {rate[3]:.1f}"


def _without(diverged: int, rate: tuple[int, float, float, float]) -> str:
    """The rate and its interval without the runs that diverged; a dash where none did, or where no others are left."""
    return f"{rate[1]:.1f} ({rate[2]:.1f} to {rate[3]:.1f})" if diverged and rate[0] else NONE


def _reading(a: str, b: str, superiority: float, p: float) -> str:
    if p >= 1 - statistics.LEVEL:
        return "no difference shown"
    return f"{a} higher" if superiority > 0.5 else f"{b} higher"

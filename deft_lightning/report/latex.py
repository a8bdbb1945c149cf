r"""The tables of a paper as LaTeX, for \usepackage{booktabs}.

The best method is in bold only where the 95% interval of its paired difference from every other method excludes 0, and
in the table of failures only where McNemar's exact test shows a difference from every other method.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from deft_lightning.report import paper, statistics
from deft_lightning.report.paired import fails_less, is_higher, is_lower, leader
from deft_lightning.report.study import Study
from deft_lightning.report.table import NONE, Table, as_number

ESCAPED = str.maketrans(
    {
        "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
        "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
        ">": r"\textgreater{}", "|": r"\textbar{}", "β": r"$\beta$", "—": "--",
        "\n": " ", "[": "{[}", "]": "{]}", "*": "{*}",  # which would belong to the line break before them
    }
)  # fmt: skip
BOLD_RULE = (
    "Bold: better than every other method, with a 95\\% interval of the difference over the same seeds that excludes 0."
)


def write(study: Study, tables: Mapping[str, Table], folder: Path) -> None:
    """Write table_1_settings.tex, table_2_failures.tex, scores.tex and paired.tex."""
    made = {
        "table_1_settings": _settings(tables["table_1_settings"]),
        "table_2_failures": _failures(study, tables["table_2_failures"]),
        "scores": _scores(study),
        "paired": _paired(tables["paired"]),
    }
    for key, text in made.items():
        (folder / f"{key}.tex").write_text(text, encoding="utf-8")


def escape(text: str) -> str:
    """`text` with every character that LaTeX reads as a command escaped."""
    return text.translate(ESCAPED)


def tabular(caption: str, key: str, columns: Sequence[str], groups: Mapping[str, Sequence[Sequence[str]]]) -> str:
    """A table environment. `caption` and cells are LaTeX already; `columns` and the headings of `groups` are text.

    Every row has as many cells as there are columns. The first column is aligned left, the others right.
    """
    count = len(columns)
    lines = [
        r"% \usepackage{booktabs}", r"\begin{table}", r"\centering", rf"\caption{{{caption}}}",
        rf"\label{{tab:{key.replace('_', '-')}}}", rf"\begin{{tabular}}{{l{'r' * (count - 1)}}}", r"\toprule",
        _row([escape(column) for column in columns]),
    ]  # fmt: skip
    for heading, rows in groups.items():
        lines.append(r"\midrule")
        if heading:
            lines.append(rf"\multicolumn{{{count}}}{{l}}{{\textit{{{escape(heading)}}}}} \\")
        lines += map(_row, rows)
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}", ""]
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _settings(table: Table) -> str:
    return _plain(table, "Settings of the methods with stages.", by="Data")


def _paired(table: Table) -> str:
    shown = table.printed[table.frame["Measure"] == paper.score_label("mig")].drop(columns=["Measure"])
    caption = "Mean difference in MIG of runs with the same seed, with its 95\\% t interval."
    return _plain(Table(table.key, shown, shown), caption, by="Data")


def _plain(table: Table, caption: str, by: str) -> str:
    """A printed table, its rows grouped by one column."""
    rows = table.printed.drop(columns=[by])
    groups: dict[str, list[list[str]]] = defaultdict(list)
    for heading, cells in zip(table.printed[by], rows.to_numpy().tolist(), strict=True):
        groups[heading].append([escape(str(cell)) for cell in cells])
    return tabular(caption, table.key, list(rows.columns), groups)


def _failures(study: Study, table: Table) -> str:
    """Table 2 at the best swept value, and, where runs diverged, the rates without them."""
    diverged = "Diverged" in table.printed
    columns = ["Method", "Runs", "Failed (%)", "95% interval", "The paper's (%)"]
    columns += ["Diverged", "Failed without them (%)"] if diverged else []
    outcomes, groups = study.outcomes(), defaultdict(list)
    best = {
        data: leader(
            {m: _failed(study, rows) for (d, m), rows in outcomes.items() if d == data}, fails_less
        )
        for data in study.data
    }  # fmt: skip
    for (_, row), data, method in zip(
        table.printed.iterrows(), table.frame["Data"], table.frame["Method"], strict=True
    ):
        cells = ["Method", "Runs at it", "Failed at it (%)", "95% interval at it", "Paper (%)"]
        cells += ["Diverged at it", "Failed at it without them (%)"] if diverged else []
        text = [escape(row[cell]) for cell in cells]
        groups[data].append([*text[:2], _bold(text[2], best[data] == method), *text[3:]])
    caption = (
        "Runs that failed: MIG below 0.1, or diverged. Each method at its best swept value, with 95\\% Wilson "
        "intervals. Bold: fails less often than every other method over the same seeds (McNemar's exact test, 5\\%)."
    )
    return tabular(caption, table.key, columns, groups)


def _scores(study: Study) -> str:
    """Means of the usual scores and the reconstruction error, with their intervals, by method and data set."""
    groups: dict[str, list[list[str]]] = {}
    for score in (*paper.MAIN_SCORES, "reconstruction"):
        cells = study.cells(score)
        best = {data: _best(study, score, data, cells) for data in study.data}
        rows = []
        for method in dict.fromkeys(m for _, m in cells):
            values = [_mean(cells.get((data, method)), best[data] == method) for data in study.data]
            lengths = [study.length(data, method) if (data, method) in cells else "" for data in study.data]
            marked = [f"{x}, {steps}" if steps else x for x, steps in zip(values, lengths, strict=True)]
            rows.append([escape(paper.shown(method)), *marked])
        if rows:
            groups[paper.score_label(score)] = rows
    caption = f"Means at the best swept value, with 95\\% intervals. {BOLD_RULE}"
    return tabular(caption, "scores", ["Method", *study.data], groups)


def _best(study: Study, score: str, data: str, cells: Mapping[tuple[str, str], pd.Series]) -> str | None:
    """The method to print in bold; nats of different likelihoods cannot be compared."""
    values = {m: _by_seed(study, x) for (d, m), x in cells.items() if d == data}
    if score == "reconstruction" and len({study.methods[m].likelihood for m in values}) > 1:
        return None
    return leader(values, is_lower if score == "reconstruction" else is_higher)


def _by_seed(study: Study, values: pd.Series) -> dict[int, float]:
    """Values, which are indexed by the place of their run, by seed."""
    return {seed: float(x) for i, x in values.items() if (seed := study.runs[int(str(i))].seed) is not None}


def _failed(study: Study, rows: pd.DataFrame) -> dict[int, float]:
    failed = rows["diverged"] | (rows["mig"] < paper.FAILED_BELOW) if "mig" in rows else rows["diverged"]
    return _by_seed(study, failed.astype(float))


def _mean(values: pd.Series | None, bold: bool) -> str:
    if values is None:
        return escape(NONE)
    low, high = statistics.mean_interval(values)
    text = _bold(as_number(float(values.mean())), bold)
    return text if math.isnan(low) else f"{text} [{as_number(low)}, {as_number(high)}]"


def _bold(text: str, bold: bool) -> str:
    return rf"\textbf{{{text}}}" if bold else text

"""A table as plain values and as printed text, and how it is written as CSV and Markdown."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from deft_lightning.report import paper

NONE = "—"


@dataclass(frozen=True)
class Table:
    """A table twice: `frame` holds the values for CSV, `printed` the text for the page and Markdown."""

    key: str
    frame: pd.DataFrame
    printed: pd.DataFrame

    def write(self, folder: Path) -> None:
        """Write `<key>.csv` and `<key>.md`."""
        self.frame.to_csv(folder / f"{self.key}.csv", index=False)
        (folder / f"{self.key}.md").write_text(markdown(self.printed), encoding="utf-8")


def markdown(frame: pd.DataFrame) -> str:
    """A Markdown table; characters that would break a cell are escaped."""
    rows = [list(frame.columns), ["---"] * len(frame.columns), *frame.astype(str).to_numpy().tolist()]
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in cells)


def table_of(
    key: str, frame: pd.DataFrame, printed: pd.DataFrame | None = None, shown: Callable[[str, str], str] | None = None
) -> Table:
    """A table from its values and, where they are printed otherwise, from what is printed; cells become text.

    `shown`, such as `Study.shown`, gives the printed name of a method on a data set.
    """
    source = frame if printed is None else printed
    text = {column: [_cell(x) for x in source[column]] for column in source.columns}
    for column in ("Method", "A", "B", "Reading"):
        if column in text:
            named = zip(source["Data"] if "Data" in text else [""] * len(source), source[column], strict=True)
            name = shown if shown and column != "Reading" else _plain_name
            text[column] = [name(str(data), str(method)) for data, method in named]
    return Table(key, frame, pd.DataFrame(text, columns=list(source.columns)))


def _plain_name(_: str, method: str) -> str:
    return paper.shown(method)


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return NONE
    return as_number(value) if isinstance(value, float) else str(value)


def as_number(value: float) -> str:
    """Three decimals, or one from 10 up."""
    if math.isnan(value):
        return NONE
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def as_range(low: float, high: float) -> str:
    """An interval as it is printed; a dash where an end is NaN."""
    return NONE if math.isnan(low) or math.isnan(high) else f"{as_number(low)} to {as_number(high)}"


def as_p_value(p: float | None) -> str:
    """A p value to three decimals."""
    if p is None or math.isnan(p):
        return NONE
    return "< 0.001" if p < 0.001 else f"{p:.3f}"

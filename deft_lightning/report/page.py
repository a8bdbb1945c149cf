"""index.html: one page that contains everything, made from templates/index.html."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from deft_lightning.common import files
from deft_lightning.report import paper
from deft_lightning.report.citation import citation
from deft_lightning.report.figures import DPI, FIGURES, WIDTH, Plate
from deft_lightning.report.study import Study
from deft_lightning.report.table import NONE, Table
from deft_lightning.report.tables import FAILURE_COLUMNS, RUN_NUMBERS

INDEX = "index.html"
REFERENCE = "DEFT"
"""The method that the page compares with the others; comparisons.csv has all pairs."""


class Section(NamedTuple):
    """A section of the page with the numbers of its figures; the template places its tables."""

    key: str
    title: str
    figures: tuple[str, ...]


SECTIONS = (
    Section("failures", "Failure rates", ("Table 2, drawn",)),
    Section("scores", "Scores", ("Fig. 7", "Fig. 1", "Fig. 13", "Fig. 9")),
    Section("comparison", "Comparison of methods", ()),
    Section("training", "Over training", ("Fig. 8", "Fig. 2")),
    Section("thresholds", "Information thresholds", ("Fig. 3", "Fig. 6")),
    Section("ablations", "Ablations", ("Fig. 5", "Fig. 10", "Fig. 11", "Fig. 12")),
    Section("traversals", "Traversals", ("Fig. 14",)),
    Section("udr", "Choosing without labels", ()),
    Section("settings", "Settings", ()),
    Section("runs", "Runs", ()),
    Section("cite", "How to cite this study", ()),
)


BASELINE = Section("baseline", "Compared with the baseline", ())
"""Stands after the comparison of methods, where a baseline is given."""


def write(
    study: Study,
    plates: Mapping[str, Sequence[Plate]],
    tables: Mapping[str, Table],
    out: Path,
    latex: bool = False,
) -> Path:
    """Write the page into `out`, which has figures/ and tables/ (with `latex`, .tex files too); returns its path."""
    environment = Environment(
        loader=PackageLoader("deft_lightning.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["url"] = quote
    drawn = {number: [(plate, _inlined(plate, out)) for plate in group] for number, group in plates.items()}
    html = environment.get_template(INDEX).render(
        version=version("deft-lightning"),
        sections=_sections(BASELINE.key in tables),
        figures={figure.number: figure for figure in FIGURES},
        plates=drawn,
        tables=tables,
        latex=latex,
        facts=_facts(study),
        citation=citation(study),
        notices=study.notices,
        problems=study.problems,
        failures=tables["table_2_failures"].printed.iloc[:, :FAILURE_COLUMNS],
        readings=_readings(tables["table_2_failures"].printed),
        medians=_medians(study, tables["scores"]),
        main_scores=_main_scores(tables["scores"]),
        comparisons=_comparisons(tables["comparisons"]),
        overall=_overall(tables["comparisons"]),
        runs=_runs(tables["runs"]),
        dash=NONE,
    )
    path = out / INDEX
    files.write_text(path, html)
    return path


def _sections(baseline: bool) -> list[Section]:
    sections = list(SECTIONS)
    if baseline:
        sections.insert(1 + [section.key for section in sections].index("comparison"), BASELINE)
    return sections


def _inlined(plate: Plate, out: Path) -> dict[str, Any]:
    """The picture as a data URI, and its width in percent of the column, so that all text has the same size."""
    path = out / "figures" / f"{plate.key}.png"
    with Image.open(path) as image:
        width = min(100, round(100 * image.width / (WIDTH * DPI)))
    return {"uri": f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}", "width": width}


def _facts(study: Study) -> dict[str, Any]:
    """The numbers and names at the top of the page."""
    started = sorted(day[:10] for run in study.runs if (day := run.text("started")))
    return {
        "runs": len(study.runs),
        "finished": sum(run.finished for run in study.runs),
        "compared": len(study.compared),
        "methods": [paper.shown(m) for m in study.methods],
        "data": study.data,
        "sources": list(dict.fromkeys(f"{study.label(run).partition(' (')[0]} {run.source}" for run in study.runs)),
        "scales": sorted({run.scale or "unknown" for run in study.runs}),
        "days": sorted({started[0], started[-1]}) if started else [],
        "statuses": sorted(Counter(run.status for run in study.runs).items()),
    }


def _readings(failures: pd.DataFrame) -> pd.DataFrame:
    """Failure rates with and without the runs that diverged, of the methods where there are such runs."""
    if "Diverged" not in failures:
        return pd.DataFrame()
    columns = ["Data", "Method", "Failed, all values (%)", "Diverged", "Failed without them (%)", "Failed at it (%)",
               "Diverged at it", "Failed at it without them (%)"]  # fmt: skip
    shown = failures.loc[failures["Diverged"] != "0", columns]
    return shown.rename(columns=lambda name: name.replace("at it", "at best"))


def _medians(study: Study, scores: Table) -> pd.DataFrame:
    """Median MIG, its interval, the number of runs and their length: one row a method, one column a data set."""
    rows = scores.printed[scores.frame["Score"] == paper.score_label("mig")]
    names = scores.frame.loc[rows.index, ["Data", "Method"]].itertuples(index=False, name=None)
    cells = {
        (data, method): (row["Median"], row["95% of median"], row["Runs"], study.length(data, method))
        for (data, method), (_, row) in zip(names, rows.iterrows(), strict=True)
    }
    methods = [m for m in study.methods if any(m == key[1] for key in cells)]
    data = [d for d in study.data if any(d == key[0] for key in cells)]
    return pd.DataFrame({d: {paper.shown(m): cells.get((d, m)) for m in methods} for d in data}).reindex(
        list(map(paper.shown, methods))
    )


def _main_scores(scores: Table) -> pd.DataFrame:
    """The rows of the usual scores and the reconstruction error."""
    wanted = [paper.score_label(s) for s in (*paper.MAIN_SCORES, "reconstruction")]
    return scores.printed[scores.printed["Score"].isin(wanted)]


def _comparisons(table: Table) -> dict[str, pd.DataFrame]:
    """The pairs for MIG: those with the reference method, or all where it was not run, and the others."""
    mig = table.frame["Score"] == paper.score_label("mig")
    first = mig & ((table.frame["A"] == REFERENCE) | (table.frame["B"] == REFERENCE))
    if not first.any():
        first = mig
    shown = table.printed.drop(columns=["Score", "p of all (Kruskal-Wallis)"])
    return {"first": shown[first], "others": shown[mig & ~first]}


def _overall(table: Table) -> list[tuple[str, str]]:
    """(data set, p) of the Kruskal-Wallis test of MIG over all methods."""
    rows = table.printed[table.printed["Score"] == paper.score_label("mig")]
    return list(dict(zip(rows["Data"], rows["p of all (Kruskal-Wallis)"], strict=True)).items())


def _runs(table: Table) -> list[dict[str, Any]]:
    """The printed cells of every run, and the numbers by which the page sorts its columns."""
    numbers = ("MIG", "Reconstruction", *RUN_NUMBERS)
    frame, printed = table.frame.to_dict("records"), table.printed.to_dict("records")
    return [
        {**row, "sort": {n: "" if pd.isna(raw.get(n)) else raw[n] for n in numbers}}
        for raw, row in zip(frame, printed, strict=True)
    ]

"""The committed results of reproduction runs, and the tables of README and docs/reproduction.md that are made of them.

python -m deft_lightning.report.reproduction add multirun_outputs/table2_dsprites_quick_deft_10
python -m deft_lightning.report.reproduction write

`add` copies results.json of runs that have ended to docs/reproduction/, compressed and without curves and pictures;
`write` replaces the tables between the marks in the pages.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deft_lightning.common import files
from deft_lightning.common.console import run_command
from deft_lightning.common.errors import DeftError
from deft_lightning.common.results import Status
from deft_lightning.report import loading, paper
from deft_lightning.report.loading import Record
from deft_lightning.report.statistics import bootstrap, wilson

RESULTS = Path("docs", "reproduction")
PAGES = (Path("README.md"), Path("docs", "reproduction.md"))
MARK = re.compile(r"(<!-- begin: (?P<name>[\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)
LEFT_OUT = ("history", "own_code", "command", "started")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m deft_lightning.report.reproduction",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    adding = commands.add_parser("add", help="copy the results of runs that have ended to docs/reproduction/")
    adding.add_argument("runs", nargs="+", help="run folders, or folders of sweeps")
    commands.add_parser("write", help="replace the tables in README.md and docs/reproduction.md")
    options = parser.parse_args(arguments)
    return run_command(lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    if options.command == "add":
        for path in add(options.runs, RESULTS):
            print(path)
        return
    runs = read(RESULTS)
    for page in PAGES:
        if not page.is_file():
            raise DeftError(f"there is no {page}: run the command at the top of a checkout of the project.")
        files.write_text(page, render(page.read_text(), runs))
        print(page)


def add(paths: Sequence[str | Path], folder: Path) -> list[Path]:
    """Copy the results of the runs under `paths` that have ended to `folder`; returns the new files' paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for run in loading.load(paths).runs:
        if not run.finished and run.status != Status.DIVERGED:
            continue
        content = {key: value for key, value in run.content.items() if key not in LEFT_OUT}
        for stage in run.stages:
            stage.pop("pictures", None)
        path = folder / f"{run.dataset}_{run.name}_seed{run.seed}_{run.text('run_id')}.json.gz"
        text = json.dumps(content, separators=(",", ":"), sort_keys=True)
        path.write_bytes(gzip.compress(text.encode(), mtime=0))  # the same results give the same file
        written.append(path)
    return written


def read(folder: Path) -> list[Record]:
    """All committed results. Raises `DeftError` for a file that is damaged."""
    runs = []
    for path in sorted(folder.glob("*.json.gz")):
        try:
            runs.append(Record(path, json.loads(gzip.decompress(path.read_bytes()))))
        except (OSError, ValueError, EOFError) as error:
            raise DeftError(f"{path} cannot be read ({error}): restore it.") from error
    return runs


def render(text: str, runs: Sequence[Record]) -> str:
    """The `text` of a page with every table between <!-- begin: name --> and <!-- end --> made of `runs`."""

    def table(match: re.Match[str]) -> str:
        if match["name"] not in TABLES:
            raise DeftError(f"there is no table {match['name']!r}: use one of {', '.join(TABLES)}.")
        return f"{match[1]}{TABLES[match['name']](runs)}\n{match[3]}"

    return MARK.sub(table, text)


def _groups(runs: Sequence[Record]) -> dict[tuple[str, ...], list[Record]]:
    """The runs by data set, source, scale, method with its pressure, precision and threads, in the order of tables."""
    groups: dict[tuple[str, ...], list[Record]] = defaultdict(list)
    for run in runs:
        groups[
            paper.DATASETS.get(run.dataset, run.dataset), run.source, run.scale, _method(run), _arithmetic(run)
        ].append(run)
    datasets, methods = list(paper.DATASETS.values()), list(paper.METHODS)

    def place(key: tuple[str, ...]) -> tuple[Any, ...]:
        data, source, scale, method, arithmetic = key
        name = method.partition(" (beta ")[0]
        of_data = datasets.index(data) if data in datasets else len(datasets)
        of_method = methods.index(name) if name in methods else len(methods)
        return of_data, source, scale, of_method, method, arithmetic

    return {key: sorted(groups[key], key=lambda run: run.seed or 0) for key in sorted(groups, key=place)}


def _method(run: Record) -> str:
    label = run.method.label
    pressure = run.value("training", "schedule", "pressure")
    return label if pressure is None or label.startswith("DEFT") else f"{label} (beta {pressure:g})"


def _arithmetic(run: Record) -> str:
    threads = run.value("threads")
    precision = run.text("precision") or "unknown"
    return f"{precision}, {threads} thread{'' if threads == 1 else 's'}" if run.text("device") == "cpu" else precision


def _failure_table(runs: Sequence[Record]) -> str:
    rows = [
        "| data | method | scale | precision | runs | MIG below 0.1 (95%) | the paper's | median MIG (95%) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (data, source, scale, method, arithmetic), group in _groups(runs).items():
        migs = [run.scores["mig"] for run in group if run.finished and "mig" in run.scores]
        diverged = sum(run.status == Status.DIVERGED for run in group)
        failed = sum(value < paper.FAILED_BELOW for value in migs) + diverged  # one that diverged is no success
        count = len(migs) + diverged
        low, high = wilson(failed, count)
        published = paper.failure_rate(group[0].method.label, group[0].dataset)
        rows.append(
            f"| {data}, {source} | {paper.shown(method)} | {scale} | {arithmetic} | {count} | {failed} of {count} "
            f"({100 * low:.0f} to {100 * high:.0f}%)"
            + (f", {diverged} diverged" if diverged else "")
            + f" | {'' if published is None else f'{published:g}%'} | {_median(migs)} |"
        )
    return "\n".join(rows)


def _stage_table(runs: Sequence[Record]) -> str:
    rows = ["| data | method | precision | seed | MIG at the end of each stage |", "|---|---|---|---|---|"]
    for (data, source, _, method, arithmetic), group in _groups(runs).items():
        for run in group:
            migs = [stage.get("scores", {}).get("mig") for stage in run.stages]
            text = ", ".join("" if mig is None else f"{mig:.3f}" for mig in migs)
            rows.append(f"| {data}, {source} | {paper.shown(method)} | {arithmetic} | {run.seed} | {text} |")
    return "\n".join(rows)


def _origin(runs: Sequence[Record]) -> str:
    """Commits, libraries and machines of the runs."""
    commits = sorted({(run.text("git_commit") or "unknown")[:10] for run in runs})
    versions = sorted({run.text("versions", "torch") or "unknown" for run in runs})
    hours = sum(run.number("timings", "train_seconds") or 0 for run in runs) / 3600
    return (
        f"{len(runs)} runs of commit {', '.join(commits)} with torch {', '.join(versions)}; {hours:.1f} hours of "
        "training, several runs at once."
    )


TABLES = {"failure rates": _failure_table, "stages": _stage_table, "origin": _origin}


def _median(values: Sequence[float]) -> str:
    """The median and its bootstrap interval, which needs five values."""
    if not values:
        return ""
    text = f"{np.median(values):.3f}"
    if len(values) < 5:
        return text
    low, high = bootstrap(values, np.median)
    return f"{text} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    sys.exit(main())

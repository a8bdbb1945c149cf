"""The committed results of reproduction runs, and the tables of README and of the docs that are made of them.

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
from collections.abc import Sequence
from pathlib import Path

from deft_lightning.common import files
from deft_lightning.common.console import run_command
from deft_lightning.common.errors import DeftError
from deft_lightning.report import loading
from deft_lightning.report.loading import Record
from deft_lightning.report.reproduction_tables import TABLES

RESULTS = Path("docs", "reproduction")
PAGES = (Path("README.md"), Path("docs", "reproduction.md"), Path("docs", "thresholds.md"))
MARK = re.compile(r"(<!-- begin: (?P<name>[\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)
LEFT_OUT = ("history", "own_code", "command", "started")
CODE = ("git_commit", "versions")
"""What is kept of every session."""
FOLDERS = re.compile(r'(?<=["=])/(?:[^"/]+/)+(?=[^"/]+")')
"""Folders of an absolute path in JSON: those of the machine on which the runs were trained are nobody's concern."""


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
    commands.add_parser("write", help="replace the tables in " + ", ".join(map(str, PAGES)))
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
        files.write_text(page, render(page.read_text(encoding="utf-8"), runs))
        print(page)


def add(paths: Sequence[str | Path], folder: Path) -> list[Path]:
    """Copy the results of the runs under `paths` that have ended to `folder`; returns the new files' paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for run in loading.load(paths).runs:
        if not run.finished and not run.diverged:
            continue
        content = {key: value for key, value in run.content.items() if key not in LEFT_OUT}
        content["sessions"] = [{key: session.get(key) for key in CODE} for session in run.value("sessions") or []]
        for stage in run.stages:
            stage.pop("pictures", None)
        path = folder / f"{run.dataset}_{run.name}_seed{run.seed}_{run.text('run_id')}.json.gz"
        text = json.dumps(content, separators=(",", ":"), sort_keys=True)
        text = FOLDERS.sub("", text)
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


if __name__ == "__main__":
    sys.exit(main())

"""`python -m deft_lightning.report multirun_outputs/<sweep>...`: the whole study on one page."""

from __future__ import annotations

import argparse
import logging
import sys
import webbrowser
from collections.abc import Sequence

from deft_lightning.common.console import run_command
from deft_lightning.report.build import write


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the report and print the path of the page; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m deft_lightning.report", description="The whole study on one page.")
    parser.add_argument("paths", nargs="+", help="folders of sweeps or runs, searched to any depth, or patterns")
    parser.add_argument("--out", default="report", help="folder of the page, its figures and tables (default: report)")
    parser.add_argument(
        "--baseline",
        action="append",
        default=[],
        metavar="PATH",
        help="runs from before a change of code, as a path like those above: every score is compared with theirs, over "
        "the same methods, data and seeds; may be given more than once",
    )
    parser.add_argument("--latex", action="store_true", help="also write the tables of a paper as LaTeX (booktabs)")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    options = parser.parse_args(arguments)
    return run_command(lambda: _report(options))


def _report(options: argparse.Namespace) -> None:
    logging.getLogger().setLevel(logging.WARNING)  # the drawing libraries log every font that a PDF embeds
    page, differences = write(options.paths, options.out, options.baseline, options.latex)
    for line in differences:
        print(line)
    if options.baseline and not differences:
        print("The two have no method, data set and settings in common: there is nothing to compare.", file=sys.stderr)
    print(page)
    if options.open:
        webbrowser.open(page.resolve().as_uri())


if __name__ == "__main__":
    sys.exit(main())

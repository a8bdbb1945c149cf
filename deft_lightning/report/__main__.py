"""`python -m deft_lightning.report multirun_outputs/<sweep>...`: the whole study on one page."""

from __future__ import annotations

import argparse
import logging
import sys
import webbrowser
from collections.abc import Sequence

from deft_lightning.common.errors import DeftError
from deft_lightning.report.build import write


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the report; returns the exit status, 1 with one sentence on stderr where there is nothing to report."""
    parser = argparse.ArgumentParser(prog="python -m deft_lightning.report", description="The whole study on one page.")
    parser.add_argument("paths", nargs="+", help="folders of sweeps or runs, searched to any depth, or patterns")
    parser.add_argument("--out", default="report", help="folder of the page, its figures and tables (default: report)")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        page = write(options.paths, options.out)
    except DeftError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: stopped; the report is not complete.", file=sys.stderr)
        return 130
    print(page)
    if options.open:
        webbrowser.open(page.resolve().as_uri())
    return 0


if __name__ == "__main__":
    sys.exit(main())

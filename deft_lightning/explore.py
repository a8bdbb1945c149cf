"""`python -m deft_lightning.explore <run folder, or folder of runs>`: look at trained models in the browser.

A local page: choose or drop an image, see its code, move the latents and see the decoded image, compare runs or stages.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from deft_lightning.common.console import quieten, run_command
from deft_lightning.common.errors import DeftError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m deft_lightning.explore", description=__doc__)
    parser.add_argument("runs", nargs="+", type=_path, help="run folders, or folders of runs")
    parser.add_argument("--port", type=int, default=0, help="of 127.0.0.1 (default: a free one)")
    parser.add_argument("--no-browser", action="store_true", help="only print the address of the page")
    parser.add_argument("--trust", action="store_true", help="import what the runs use from outside this package")
    options = parser.parse_args(arguments)
    return run_command(lambda: _explore(options))


def _explore(options: argparse.Namespace) -> None:
    if importlib.util.find_spec("dash") is None:
        raise DeftError("dash is not installed: pip install 'deft-lightning[explore]'.")
    # --help imports no torch
    from deft_lightning.viewer import page, serve  # noqa: PLC0415
    from deft_lightning.viewer.runs import Library, find_runs  # noqa: PLC0415

    quieten()
    logging.getLogger("deft_lightning").setLevel(logging.ERROR)  # the training said what there is to say
    library = Library(find_runs(options.runs), options.trust)
    serve.serve(serve.bind(page.application(library).server, options.port), not options.no_browser)


def _path(text: str) -> Path:
    return Path(text).expanduser()


if __name__ == "__main__":
    sys.exit(main())

"""`python -m deft_lightning.data prepare <name>` and `python -m deft_lightning.data show <name>`."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from deft_lightning.common.errors import DeftError
from deft_lightning.data import registry
from deft_lightning.data.show import show


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deft_lightning.data", description="Data sets.")
    commands = parser.add_subparsers(dest="command", required=True)
    prepare = commands.add_parser("prepare", help="download official files, check and convert them")
    prepare.add_argument("name", help=", ".join(registry.DOWNLOADS))
    prepare.add_argument("--root", help="the data folder (default: the user's cache folder)")
    show = commands.add_parser("show", help="write a picture for each factor and a grid of samples")
    show.add_argument("name", help=", ".join(registry.DATASETS))
    show.add_argument(
        "options", nargs="*", metavar="option=value", help="options of the data set, such as source=official"
    )
    show.add_argument("--root", help="the data folder (default: the user's cache folder)")
    show.add_argument("--out", type=Path, default=Path("."), help="folder for the pictures (default: this one)")
    return parser


def _options(given: Sequence[str]) -> dict[str, str]:
    if bad := [option for option in given if "=" not in option]:
        raise DeftError(f"{bad[0]!r} should be option=value")
    return dict(option.split("=", 1) for option in given)


def _run(arguments: argparse.Namespace) -> None:
    if arguments.command == "prepare":
        print(registry.prepare(arguments.name, arguments.root))
        return

    options = _options(arguments.options) | ({"root": arguments.root} if arguments.root else {})
    dataset = registry.load(arguments.name, **options)
    for notice in dataset.notices:
        print(notice)
    for path in show(dataset, arguments.out):
        print(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status, 1 with one sentence on stderr for a mistake of the user's."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        _run(_parser().parse_args(arguments))
    except DeftError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it was", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

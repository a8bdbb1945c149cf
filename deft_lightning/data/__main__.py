"""`python -m deft_lightning.data prepare <name>` and `python -m deft_lightning.data show <name>`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from deft_lightning.common.console import run_command
from deft_lightning.common.errors import DeftError
from deft_lightning.data import registry
from deft_lightning.data.show import show


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deft_lightning.data", description="Download or show data sets.")
    commands = parser.add_subparsers(dest="command", required=True)
    prepare = commands.add_parser("prepare", help="download, check and convert the published files of a data set")
    prepare.add_argument("name", help=", ".join(registry.DOWNLOADS))
    pictures = commands.add_parser("show", help="write a picture for every factor, and one of random samples")
    pictures.add_argument("name", help=", ".join(registry.DATASETS))
    pictures.add_argument(
        "options", nargs="*", metavar="option=value", help="options of the data set, such as source=published"
    )
    pictures.add_argument("--out", type=Path, default=Path("."), help="folder of the pictures (default: this one)")
    for command in (prepare, pictures):
        command.add_argument("--root", help="folder of the prepared data (default: the user's cache folder)")
    return parser


def _options(words: Sequence[str]) -> dict[str, str]:
    for word in words:
        if "=" not in word:
            raise DeftError(f"{word!r} is not an option: write option=value, such as source=published.")
    pairs = dict(word.split("=", 1) for word in words)
    return {key: value[1:-1] if _is_quoted(value) else value for key, value in pairs.items()}


def _is_quoted(value: str) -> bool:
    """Whether a value has quotes of its own, as one with spaces needs them in overrides of a run."""
    return len(value) > 1 and value[0] == value[-1] and value[0] in "'\""


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
    """Run one command; returns the exit status, 1 after an error of the user's."""
    parsed = _parser().parse_args(arguments)
    return run_command(lambda: _run(parsed))


if __name__ == "__main__":
    sys.exit(main())

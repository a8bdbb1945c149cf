"""What every command has in common on the screen: errors, tables, progress bars, and a closed output."""

from __future__ import annotations

import errno
import io
import logging
import os
import shlex
import sys
import warnings
from collections.abc import Callable
from typing import Any, TextIO

import rich
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from deft_lightning.common.errors import DeftError


def look_in_current_folder() -> None:
    """Let Python find modules of the user's in the current folder, as `python -m` does; a console script does not."""
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())


def run_command(command: Callable[[], int | None]) -> int:
    """Run `command`; returns the exit status: its own, or 1 after an error of the user's, which is printed as one line.

    That is a `DeftError`, or what the file system says of a file.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    survive_closed_output()
    read_arguments()
    look_in_current_folder()
    try:
        return command() or 0
    except DeftError as error:
        print_error(error)
        return 1
    except OSError as error:
        sentence = file_error(error)
        if sentence is None:
            raise
        print_error(sentence)
        return 1
    except KeyboardInterrupt:
        print_error("interrupted.")
        return 130


def file_error(error: OSError) -> str | None:
    """What the file system says of a file, as one sentence; None for an error of something else, as of a connection."""
    if error.filename is not None:
        return f"{error.filename} cannot be used ({error.strerror or error}): look at its path and permissions."
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"a file cannot be written ({error.strerror}): make room."
    return None


def print_error(error: object) -> None:
    """Print one line to the standard error, marked as an error."""
    print(f"error: {error}", file=sys.stderr)


def quieten() -> None:
    """Silence Lightning's and torch's tips, device notes and warnings for developers."""
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch"):
        for logger in (name, f"{name}.utilities.rank_zero"):  # the import of Lightning sets the level of the first
            logging.getLogger(logger).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", module="lightning_fabric")
    warnings.filterwarnings("ignore", module="torch.*")
    if not rich.get_console().is_terminal:
        rich.reconfigure(width=160, soft_wrap=True)  # a log file has no width


def new_table(*columns: str) -> Table:
    """An empty table with right-aligned columns."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def new_progress(*columns: ProgressColumn, unit: str = "", **options: Any) -> Progress:
    """A progress bar with description, count and time left; `columns` stand between count and time."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        *([TextColumn(unit)] if unit else []),
        *columns,
        TimeRemainingColumn(elapsed_when_finished=True, table_column=Column(no_wrap=True)),
        console=rich.get_console(),
        speed_estimate_period=120,
        **options,
    )


def duration(seconds: float) -> str:
    """Seconds in words: "45 s", "12 min", "3 h 20 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def command_line() -> str:
    """The command that this process was started with, as it can be typed into a shell again."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    program = sys.argv[:1] if spec is None else ["python", "-m", spec.name.removesuffix(".__main__")]
    return shlex.join([*program, *sys.argv[1:]])


def read_arguments() -> None:
    """Read the arguments of this process as UTF-8, which in the C locale Python takes for bytes without a meaning."""
    sys.argv[1:] = [os.fsencode(argument).decode("utf-8", "replace") for argument in sys.argv[1:]]


def survive_closed_output() -> None:
    """Let the process continue when the reader of its output has gone, as in `... | head -1`."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, _Lasting):
            setattr(sys, name, _Lasting(stream))


class _Lasting(io.TextIOBase):
    """A text stream that discards what is written once its reader has gone."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            self._discard()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._discard()

    def _discard(self) -> None:
        """Point the file descriptor at the null device, for this stream and for child processes."""
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self._stream.fileno())
        os.close(null)

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return self._stream.isatty()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        return self._stream.errors

    @property
    def buffer(self) -> Any:
        return self._stream.buffer

"""A progress bar for rendering, converting, reading and downloading data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import rich

from deft_lightning.common.console import new_progress


@contextmanager
def progress_bar(
    description: str, total: float | None, completed: float = 0, unit: str = ""
) -> Iterator[Callable[[float], None]]:
    """Show a progress bar while the block runs; it yields a function that adds to what is completed.

    There is no bar where the output is not a terminal. `total` is None where it is not known.
    """
    with new_progress(unit=unit, disable=not rich.get_console().is_terminal) as bar:
        task = bar.add_task(description, total=total, completed=completed)  # type: ignore[arg-type]
        yield lambda amount: bar.advance(task, amount)

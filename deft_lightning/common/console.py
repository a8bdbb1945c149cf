"""What every command has in common on the screen."""

from __future__ import annotations

import logging
import warnings

import rich
from rich.table import Table


def quieten() -> None:
    """Leave the screen to what this package says: no tips, device notes or warnings meant for developers."""
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", module="lightning_fabric")
    warnings.filterwarnings("ignore", module="torch.*")
    if not rich.get_console().is_terminal:
        rich.reconfigure(width=160, soft_wrap=True)  # a log file has no width


def new_table(*columns: str) -> Table:
    """An empty table with right-aligned columns, as all of this package's are."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table

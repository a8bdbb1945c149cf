"""What the figures share: style, plates, rows of axes, and how they are saved."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter
from PIL import Image

INK, QUIET, GRID = "#1a1a1a", "#6b6b6b", "#e4e4e4"
STYLE: Any = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.labelsize": 8,
    "axes.edgecolor": "#9a9a9a",
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": "#9a9a9a",
    "ytick.color": "#9a9a9a",
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 8,
    "lines.linewidth": 1.4,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
}
DPI = 180
WIDTH = 7.4  # inches: the text width of the page, and of a paper


@dataclass
class Plate:
    """One picture of the report: a function that draws it, or a PNG that a run made. Must be picklable."""

    key: str
    """File name without suffix."""
    picture: Callable[[], Figure] | Path
    caption: str = ""
    """What this picture shows; the caption of the whole figure is below all of its plates."""
    secondary: bool = False
    """Whether the page folds it away."""


def save(plate: Plate, folder: Path) -> None:
    """Write the plate as PNG and PDF; the same runs give the same files."""
    png, pdf = folder / f"{plate.key}.png", folder / f"{plate.key}.pdf"
    if isinstance(plate.picture, Path):
        with Image.open(plate.picture) as image:
            rgb = image.convert("RGB")
        rgb.save(png)
        rgb.save(pdf, resolution=150)
        return
    with mpl.rc_context(STYLE):
        figure = plate.picture()
        figure.set_dpi(DPI)
        if (engine := figure.get_layout_engine()) is not None:
            engine.execute(figure)
            figure.set_layout_engine("none")  # one layout serves both files
        # `savefig` would first draw the figure once more for each file, for a layout that is done already
        FigureCanvasAgg(figure).print_png(png, pil_kwargs={"compress_level": 4})
        FigureCanvasPdf(figure).print_pdf(pdf, metadata={"CreationDate": None})


def row_of_axes(
    count: int, height: float, most: int = 4, width: float = WIDTH, **sharing: Any
) -> tuple[Figure, list[Axes]]:
    """A figure with `count` axes, at most `most` in a row, each row `height` inches high."""
    columns = min(count, most)
    rows = -(-count // columns)
    figure = Figure(figsize=(width, rows * height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **sharing).ravel().tolist()
    for spare in axes[count:]:
        spare.set_visible(False)
    return figure, axes[:count]


def title(label: str) -> str:
    """The label of a data set as a title: the part in brackets goes below, in short lines."""
    name, bracket, details = label.partition(" (")
    return "\n".join([name, *textwrap.wrap(bracket.strip() + details, 22)])


def step_axis(ax: Axes) -> None:
    """Label the x axis as optimiser steps, 10000 as 10k."""
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.set_xlabel("step")


def file_name(text: str) -> str:
    """A label as a file name of letters, digits and underscores."""
    return "_".join("".join(c if c.isalnum() else " " for c in text.lower()).split())

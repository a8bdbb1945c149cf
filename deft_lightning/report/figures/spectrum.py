"""The spectrum of a data set: its eigenvalues, and their directions as pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from deft_lightning.report.figures._common import INK, QUIET, STYLE, WIDTH

COLUMNS = 5


@mpl.rc_context(STYLE)
def spectrum_figure(record: Mapping[str, Any], directions: NDArray[np.float32], title: str = "") -> Figure:
    """The eigenvalues as bars, those that are alike in one colour, and below them their directions.

    Args:
        record: the content of a thresholds.json of kind "spectrum".
        directions: what a latent adds to the mean image, [k, C, H, W]. One channel is drawn from blue (darker) over
            white to red (lighter); three as colours on grey.
        title: of the figure.
    """
    eigenvalues = record["eigenvalues"]
    rows = -(-len(eigenvalues) // COLUMNS)
    figure = Figure(figsize=(WIDTH, 2.0 + 1.55 * rows), layout="constrained")
    grid = figure.add_gridspec(rows + 1, COLUMNS, height_ratios=[1.6, *[1.4] * rows])
    bars = figure.add_subplot(grid[0, :])
    paired = {number: place for place, group in enumerate(record["alike"]) for number in group}
    colours = [("#0072b2", "#d55e00")[paired[n] % 2] if n in paired else QUIET for n in range(1, len(eigenvalues) + 1)]
    bars.bar(range(1, len(eigenvalues) + 1), eigenvalues, width=0.6, color=colours)
    for number, value in enumerate(eigenvalues, start=1):
        bars.annotate(f"{value:.3g}", (number, value), (0, 2), textcoords="offset points", ha="center", color=INK)
    bars.set_xticks(range(1, len(eigenvalues) + 1))
    bars.set_ylabel("β below which\na latent opens")
    bars.grid(visible=False, axis="x")
    bars.margins(y=0.12)
    for place, (value, direction) in enumerate(zip(eigenvalues, directions, strict=True)):
        ax = figure.add_subplot(grid[1 + place // COLUMNS, place % COLUMNS])
        scale = max(float(np.abs(direction).max()), 1e-9)
        if len(direction) == 1:
            ax.imshow(direction[0], cmap="RdBu_r", vmin=-scale, vmax=scale)
        else:
            ax.imshow(np.clip(0.5 + 0.5 * direction[:3].transpose(1, 2, 0) / scale, 0, 1))
        ax.set_title(f"{place + 1}: {value:.3g}", fontsize=8)
        ax.set_axis_off()
    if title:
        figure.suptitle(f"{title}: eigenvalues of the images and their directions", fontsize=9)
    return figure

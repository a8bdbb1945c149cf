"""Table 2 as a picture: failure rates with their intervals, and the paper's rates."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from deft_lightning.report import paper, tables
from deft_lightning.report.figures._common import INK, Plate, row_of_axes, title
from deft_lightning.report.study import Study


def failure_rates(study: Study) -> list[Plate]:
    """One row for each method: failures pooled over the sweep and at the best value, and the paper's rate."""
    frame = tables.failures(study).frame
    return [Plate("table_2_failures", partial(_draw, frame))] if len(frame) else []


def _draw(frame: pd.DataFrame) -> Figure:
    data, methods = list(dict.fromkeys(frame["Data"])), paper.method_order(set(frame["Method"]))
    figure, axes = row_of_axes(
        len(data), 1.1 + 0.27 * len(methods), sharey=True, sharex=True, width=2.6 + 1.6 * min(len(data), 3)
    )
    colours = paper.colours(methods)
    for ax, label in zip(axes, data, strict=True):
        rows = frame[frame["Data"] == label]
        y = np.array([methods.index(m) for m in rows["Method"]])
        shades = [colours[m] for m in rows["Method"]]
        ax.hlines(y + 0.14, rows["Low"], rows["High"], colors=shades, linewidth=1, alpha=0.6)
        ax.scatter(rows["Failed (%)"], y + 0.14, s=16, facecolors="white", edgecolors=shades, zorder=3)
        ax.hlines(y - 0.14, rows["Low at best"], rows["High at best"], colors=shades, linewidth=1.8)
        ax.scatter(rows["Failed at best (%)"], y - 0.14, s=20, c=shades, zorder=3)
        ax.scatter(rows["Paper (%)"].astype(float), y, s=26, marker="|", color=INK, linewidths=1.6, zorder=4)
        ax.set_yticks(range(len(methods)), [paper.shown(m) for m in methods])
        ax.set_ylim(len(methods) - 0.4, -0.6)
        ax.set_xlim(-4, 104)
        ax.grid(visible=False, axis="y")
        ax.set_title(title(label))
        ax.set_xlabel("failed (%)")
    key = [
        Line2D([], [], marker="o", color=INK, linewidth=1.8, markersize=4.5),
        Line2D([], [], marker="o", color=INK, linewidth=1, markersize=4, markerfacecolor="white"),
        Line2D([], [], marker="|", color=INK, linewidth=0, markersize=7, markeredgewidth=1.6),
    ]
    names = ["at the best value", "pooled over the sweep", "the paper's"]
    figure.legend(key, names, loc="outside lower center", ncols=3)
    return figure

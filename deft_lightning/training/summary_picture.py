"""figures/summary.png: a whole run in one picture, from metrics.csv, results.json and the traversals drawn before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from deft_lightning.common.pictures import mark_stages
from deft_lightning.training.figures import draw_nmi_over_training, save_figure

SMOOTHING = 200  # windows over a run that logged losses are averaged in, so that the curves stay readable


def draw(folder: Path, outcome: dict[str, Any]) -> Path:
    """Draw the run in `folder`, whose results are `outcome`: losses, pressure, NMI, last traversals and scores."""
    figure = Figure(figsize=(12, 8.5), layout="constrained")
    figure.suptitle(_title(outcome), fontsize=11)
    grid = figure.add_gridspec(3, 2, width_ratios=(1, 1.1), height_ratios=(1, 1, 0.9))
    boundaries = outcome["boundaries"]
    losses = figure.add_subplot(grid[0, 0])
    _draw_losses(losses, folder / "metrics.csv", boundaries)
    history = outcome.get("history", {}).get("nmi")
    nmi = figure.add_subplot(grid[1, 0], sharex=losses)
    if history:
        draw_nmi_over_training(nmi, history, boundaries)
    else:
        nmi.set_axis_off()
    _draw_scores(figure.add_subplot(grid[2, 0]), outcome)
    _draw_traversals(figure.add_subplot(grid[:, 1]), folder, outcome)
    return save_figure(figure, folder, "summary")


def _title(outcome: dict[str, Any]) -> str:
    data, steps = outcome["data"], outcome.get("steps", outcome["boundaries"][-1])  # a callback counts them
    return f"{outcome['name']}, seed {outcome['seed']}: {data['name']} ({data['source']}), {steps:,} steps"


def _draw_losses(axes: Axes, path: Path, boundaries: list[int]) -> None:
    """Reconstruction and KL on one side, the pressure (or capacity) on the other, on logarithmic axes."""
    table = pd.read_csv(path) if path.exists() else pd.DataFrame({"step": []})
    for name, colour in (("reconstruction", "tab:blue"), ("kl", "tab:orange")):
        if f"train/{name}" in table:
            steps, values = _averaged(table, f"train/{name}")
            axes.plot(steps, values, color=colour, label=f"{name.replace('kl', 'KL')} (nats)")
        if f"validation/{name}" in table:
            steps, values = _averaged(table, f"validation/{name}")
            axes.plot(steps, values, "--o", ms=3, lw=1, color=colour, label=f"{name.replace('kl', 'KL')}, held out")
    # The negative logarithm of a density, such as a Gaussian's, may be below 0.
    negative = any((np.asarray(line.get_ydata()) < 0).any() for line in axes.lines)
    axes.set(yscale="symlog" if negative else "log", title="loss parts and pressure")
    axes.title.set_fontsize(9)
    quantity = "capacity" if "capacity" in table else "pressure"
    if quantity in table:
        rows = table[table[quantity].notna()]
        other = axes.twinx()
        other.step(rows["step"], rows[quantity], where="post", color="0.4", lw=1, label=quantity)
        other.set(yscale="log" if (rows[quantity] > 0).all() else "linear", ylabel=quantity)
        axes.plot([], [], color="0.4", lw=1, label=quantity)
    mark_stages(axes, boundaries)
    axes.legend(loc="center right", fontsize=7, frameon=False)  # the pressure ends below, and is on other axes


def _averaged(table: pd.DataFrame, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of a column, averaged over equal parts of the run."""
    rows = table[table[column].notna()]
    part = np.arange(len(rows)) * SMOOTHING // max(len(rows), SMOOTHING)
    means = rows[["step", column]].groupby(part).mean()
    return means["step"].to_numpy(), means[column].to_numpy()


def _draw_scores(axes: Axes, outcome: dict[str, Any]) -> None:
    """A table: one row a score, one column a stage."""
    axes.set_axis_off()
    scored = {name: stage for name, stage in outcome.get("stages", {}).items() if "scores" in stage}
    if not scored:
        return
    stages = list(scored.values())
    names = list(stages[-1]["scores"])
    cells = [[f"{stage['scores'][name]:.3g}" if name in stage["scores"] else "" for stage in stages] for name in names]
    columns = [name.replace("_", " ") for name in scored]
    if stages[-1].get("scored_on") == "held-out images":
        axes.set_title("scores of held-out images", fontsize=9)
    table = axes.table(cells, rowLabels=names, colLabels=columns, loc="center", cellLoc="right", edges="horizontal")
    table.auto_set_font_size(False)
    table.set_fontsize(8)


def _draw_traversals(axes: Axes, folder: Path, outcome: dict[str, Any]) -> None:
    axes.set_axis_off()
    pictures = [stage["pictures"] for stage in outcome.get("stages", {}).values() if "pictures" in stage]
    path = folder / pictures[-1]["traversals"] if pictures else None
    if path is not None and path.exists():
        axes.imshow(Image.open(path))

"""Violins with every value as a point. All violins of one axes are three artists, since a study has hundreds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from numpy.typing import NDArray
from scipy.stats import gaussian_kde

from deft_lightning.report.figures._common import INK

Array = NDArray[np.floating[Any]]
HALF_WIDTH = 0.38
SPREAD = 0.45  # of the points, across the violin
MANY = 60  # values, from which on points are smaller


def violins(ax: Axes, samples: Mapping[int, Array], colours: Sequence[str], upright: bool = False) -> None:
    """Draw density, points and, from three values on, median of each sample, at its key on y, or on x if `upright`.

    The density is estimated with Scott's bandwidth, scaled to one width for all and cut at the extreme values.
    """
    outlines = [_outline(values, place) for place, values in samples.items()]
    x = np.concatenate([np.empty(0), *samples.values()])
    y = np.concatenate([np.empty(0), *(place + SPREAD * jitter(len(values)) for place, values in samples.items())])
    dots = np.repeat(np.array(colours, dtype=object), [len(values) for values in samples.values()])
    medians = {place: float(np.median(values)) for place, values in samples.items() if len(values) > 2}
    places = np.array(list(medians))
    if upright:
        outlines, x, y = [outline[:, ::-1] for outline in outlines], y, x
    many = max(map(len, samples.values()), default=0) > MANY
    bars = ax.hlines if upright else ax.vlines
    for artist in (
        ax.add_collection(
            PolyCollection(outlines, facecolors=colours, edgecolors="#8a8a8a", linewidths=0.6, alpha=0.35)
        ),
        ax.scatter(x, y, s=3 if many else 8, c=list(dots), alpha=0.45 if many else 0.8, linewidths=0, rasterized=many),
        bars(list(medians.values()), places - 0.36, places + 0.36, color=INK, linewidth=1.6),
    ):
        artist.set_in_layout(False)  # inside the axes: the layout need not measure them


def jitter(count: int) -> Array:
    """Offsets in [-0.5, 0.5) that spread points evenly: a fixed sequence (golden ratio)."""
    return (np.arange(count) * 0.6180339887 + 0.5) % 1 - 0.5


def _outline(values: Array, place: float) -> Array:
    """Corners [P, 2] of a violin along x around y = `place`; a flat line where the values have no spread."""
    grid = np.linspace(values.min(), values.max(), 60)
    if len(values) < 3 or np.ptp(values) <= 1e-9 * max(1.0, float(np.abs(values).max())):
        half = np.zeros_like(grid)
    else:
        density = gaussian_kde(values)(grid)
        half = HALF_WIDTH * density / density.max()
    return np.column_stack([np.concatenate([grid, grid[::-1]]), place + np.concatenate([half, -half[::-1]])])

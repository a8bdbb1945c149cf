"""Pictures from arrays: nothing here knows of models or runs. Figures are matplotlib's, animations Pillow's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Array = NDArray[np.float32]


class Animation:
    """Frames of one animation; `save` writes them as a GIF that loops."""

    def __init__(self, frames: Sequence[Image.Image], milliseconds: int = 120) -> None:
        self.frames, self.milliseconds = list(frames), milliseconds

    def save(self, path: Path) -> None:
        """Write a looping GIF."""
        first, *rest = self.frames
        first.save(path, save_all=True, append_images=rest, duration=self.milliseconds, loop=0, optimize=True)


def nmi_heat_map(matrix: NDArray[np.float64], names: Sequence[str], title: str) -> Figure:
    """The NMI matrix [D, K] as a heat map from 0 to 1: rows are latents, columns factors."""
    latents, factors = matrix.shape
    figure = Figure(figsize=(1.1 + 0.75 * factors, 0.9 + 0.38 * latents))
    axes = figure.add_subplot()
    image = axes.imshow(matrix, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    axes.set_xticks(range(factors), names, rotation=30, ha="right")
    axes.set_yticks(range(latents), [f"z{j}" for j in range(latents)])
    for j in range(latents):
        for k in range(factors):
            dark = matrix[j, k] < 0.6
            axes.text(k, j, f"{matrix[j, k]:.2f}", ha="center", va="center", fontsize=7, color="w" if dark else "k")
    axes.set_title(title, fontsize=9)
    figure.colorbar(image, ax=axes, label="NMI")
    return figure


def traversal_grid(images: Array, rows: Sequence[str], span: float, title: str) -> Figure:
    """Traversals [D, columns, C, H, W] in [0, 1] as a grid: one labelled row a latent, from -span to span."""
    latents, columns = images.shape[:2]
    figure = Figure(figsize=(0.75 * columns + 2.2, 0.75 * latents + 0.8))
    grid = figure.subplots(latents, columns, squeeze=False, gridspec_kw={"wspace": 0.04, "hspace": 0.04})
    for j in range(latents):
        for i in range(columns):
            _picture(grid[j, i], images[j, i])
        grid[j, 0].set_ylabel(rows[j], rotation=0, ha="right", va="center", fontsize=8)
    for i, value in enumerate(np.linspace(-span, span, columns)):
        grid[0, i].set_title(f"{value:+.1f}", fontsize=7)
    figure.suptitle(title, fontsize=10, y=0.98)
    return figure


def traversal_animation(images: Array, labels: Sequence[str], scale: int = 2) -> Animation:
    """Traversals [D, columns, C, H, W] as an animation: every latent moves there and back, side by side."""
    latents, columns = images.shape[:2]
    across = min(latents, 5)
    side, bar = images.shape[-1] * scale, 16
    font = ImageFont.load_default(11)
    frames = []
    for i in [*range(columns), *range(columns - 2, 0, -1)]:
        frame = Image.new("RGB", (across * (side + 4), -(-latents // across) * (side + bar + 4)), "white")
        draw = ImageDraw.Draw(frame)
        for j in range(latents):
            left, top = (j % across) * (side + 4), (j // across) * (side + bar + 4)
            draw.text((left + 2, top + 1), labels[j], fill="black", font=font)
            tile = Image.fromarray(_rgb(images[j, i])).resize((side, side), Image.Resampling.NEAREST)
            frame.paste(tile, (left, top + bar))
        frames.append(frame)
    return Animation(frames)


def reconstruction_grid(originals: Array, reconstructions: Array) -> Figure:
    """Originals [N, C, H, W] above their reconstructions, both in [0, 1]."""
    count = len(originals)
    figure = Figure(figsize=(0.75 * count + 1.2, 1.9))
    grid = figure.subplots(2, count, squeeze=False, gridspec_kw={"wspace": 0.04, "hspace": 0.04})
    for row, pictures in enumerate((originals, reconstructions)):
        for i in range(count):
            _picture(grid[row, i], pictures[i])
    grid[0, 0].set_ylabel("original", rotation=0, ha="right", va="center", fontsize=8)
    grid[1, 0].set_ylabel("reconstruction", rotation=0, ha="right", va="center", fontsize=8)
    return figure


def _picture(axes: mpl.axes.Axes, image: Array) -> None:
    axes.imshow(_rgb(image), interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_linewidth(0.3)


def _rgb(image: Array) -> NDArray[np.uint8]:
    """[C, H, W] in [0, 1] to [H, W, 3] uint8; one channel becomes grey."""
    pixels = np.clip(np.rint(image * 255), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(pixels, (3, *pixels.shape[1:])).transpose(1, 2, 0))

"""Figures and animations of a run, drawn from arrays. Independent of model and trainer."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from deft_lightning.common.pictures import GAP, Array, mark_stages, mosaic, rgb

DPI = 120
PNG = {"compress_level": 4}  # twice as fast as the default, and files are hardly larger


class Animation:
    """Frames of an animation, each shown for `milliseconds`."""

    def __init__(self, frames: Sequence[Image.Image], milliseconds: int = 120) -> None:
        self.frames, self.milliseconds = list(frames), milliseconds

    def save(self, target: Path | io.BytesIO) -> None:
        """Write a looping GIF."""
        first, *rest = self.frames
        first.save(target, "GIF", save_all=True, append_images=rest, duration=self.milliseconds, loop=0, optimize=True)


def nmi_heat_map(matrix: NDArray[np.float64], names: Sequence[str], title: str) -> Figure:
    """The NMI matrix [D, K] as a heat map from 0 to 1: one row for each latent, one column for each factor."""
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


def nmi_over_training(history: Mapping[str, Mapping[str, Any]], boundaries: Sequence[int]) -> Figure:
    """Max-1 and max-2 NMI of every factor over the steps of a run, with the ends of stages marked (Fig. 2).

    `history` is `history.nmi` of results.json: {step: {max1: {factor: value}, max2: {factor: value}}}.
    """
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    draw_nmi_over_training(figure.add_subplot(), history, boundaries)
    return figure


def draw_nmi_over_training(axes: Axes, history: Mapping[str, Mapping[str, Any]], boundaries: Sequence[int]) -> None:
    """Draw `nmi_over_training` on `axes`, which may be part of another figure."""
    steps = sorted(history, key=int)
    for k, name in enumerate(history[steps[-1]]["max1"]):
        for key, style in (("max1", "-"), ("max2", ":")):
            label = name if key == "max1" else None
            values = [history[step][key][name] for step in steps]
            axes.plot([int(step) for step in steps], values, style, color=f"C{k}", label=label)
    mark_stages(axes, boundaries)
    axes.set(xlabel="step", ylabel="NMI", ylim=(0, 1), title="max-1 (solid) and max-2 (dotted) NMI of every factor")
    axes.title.set_fontsize(9)
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)


def save_figure(figure: Figure, folder: Path, name: str) -> Path:
    """Write a figure to figures/ of a run folder as PNG."""
    path = figures_folder(folder) / f"{name}.png"
    write_png(figure, path)
    return path


def figures_folder(folder: Path | str) -> Path:
    """figures/ of a run folder, made when first needed."""
    path = Path(folder) / "figures"
    path.mkdir(parents=True, exist_ok=True)
    return path


def as_image(figure: Figure) -> Image.Image:
    """A figure as a picture in memory."""
    buffer = io.BytesIO()
    write_png(figure, buffer)
    return Image.open(buffer)


def write_png(figure: Figure, target: Path | io.BytesIO) -> None:
    """Write a figure as PNG; one that has no layout engine is cropped to all that is drawn."""
    if figure.get_layout_engine() is None:
        figure.savefig(target, dpi=DPI, bbox_inches="tight", pil_kwargs=PNG)
    else:
        figure.set_dpi(DPI)
        FigureCanvasAgg(figure).print_png(target, pil_kwargs=PNG)  # `savefig` would draw the figure twice


def traversal_grid(images: Array, rows: Sequence[str], span: float, title: str) -> Figure:
    """Traversals [D, columns, C, H, W] in [0, 1] as a grid: one row for each latent, labelled `rows`, -span to span."""
    values = np.linspace(-span, span, images.shape[1])
    return _labelled_grid(images, rows, [f"{value:+.1f}" if value else "0" for value in values], title)


def traversal_animation(images: Array, labels: Sequence[str], scale: int = 2) -> Animation:
    """Traversals [D, columns, C, H, W] in [0, 1] as an animation: all latents side by side, there and back."""
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
            tile = Image.fromarray(rgb(images[j, i])).resize((side, side), Image.Resampling.NEAREST)
            frame.paste(tile, (left, top + bar))
        frames.append(frame)
    return Animation(frames)


def reconstruction_grid(originals: Array, reconstructions: Array, title: str = "") -> Figure:
    """Originals [N, C, H, W] above their reconstructions, both in [0, 1]."""
    return _labelled_grid(np.stack([originals, reconstructions]), ["original", "reconstruction"], [], title)


def _labelled_grid(images: Array, rows: Sequence[str], columns: Sequence[str], title: str) -> Figure:
    # One mosaic on one pair of axes: a pair for every image takes seconds to draw.
    height, width = images.shape[-2:]
    figure = Figure(figsize=(0.75 * images.shape[1], 0.75 * images.shape[0]))
    axes = figure.add_axes((0, 0, 1, 1))  # labels are outside; write_png crops the file to all that is drawn
    axes.imshow(mosaic(images))
    axes.set_yticks([j * (height + GAP) + (height - 1) / 2 for j in range(len(rows))], rows, fontsize=8)
    axes.set_xticks([i * (width + GAP) + (width - 1) / 2 for i in range(len(columns))], columns, fontsize=7)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(title, fontsize=10)
    return figure

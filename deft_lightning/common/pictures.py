"""Pictures: images in [0, 1] as pixels, and what figures of training share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float32]
GAP = 3
"""White pixels between the pictures of a grid."""


def mosaic(images: Array, gap: int = GAP) -> NDArray[np.uint8]:
    """Images [rows, columns, C, H, W] in [0, 1] side by side, [height, width, 3], `gap` white pixels between them."""
    rows, columns, _, height, width = images.shape
    picture = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for j in range(rows):
        for i in range(columns):
            top, left = j * (height + gap), i * (width + gap)
            picture[top : top + height, left : left + width] = rgb(images[j, i])
    return picture


def rgb(image: Array) -> NDArray[np.uint8]:
    """[C, H, W] in [0, 1] to [H, W, 3] uint8; one channel becomes grey, of more the first three are shown."""
    if image.shape[0] != 1:
        image = np.concatenate([image[:3], np.zeros((max(0, 3 - len(image)), *image.shape[1:]), image.dtype)])
    pixels = np.clip(np.rint(image * 255), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(pixels, (3, *pixels.shape[1:])).transpose(1, 2, 0))


def mark_stages(axes: Axes, boundaries: Sequence[int]) -> None:
    """Draw a thin line at the end of every stage except the last."""
    for step in boundaries[:-1]:
        axes.axvline(step, color="0.7", linewidth=0.8, linestyle=(0, (4, 3)))

"""Images as one picture: from arrays in [0, 1] to pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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
    """[C, H, W] in [0, 1] to [H, W, 3] uint8; one channel becomes grey."""
    pixels = np.clip(np.rint(image * 255), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(pixels, (3, *pixels.shape[1:])).transpose(1, 2, 0))

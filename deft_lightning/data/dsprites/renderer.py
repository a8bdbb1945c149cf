"""Renders all 737,280 images of dSprites from their geometry.

Coordinates: x to the right, y down, pixel edges at whole numbers, image 64 x 64. A pixel is 1 where its centre is
inside the shape; there is no anti-aliasing. In either direction the centre of a sprite is at 16 + 32 p, where p has 32
equally spaced values from 0 to 1. The scale has 6 equally spaced values from 0.5 to 1, and the orientation 40 from 0 to
2 pi inclusive; a growing orientation turns the sprite counter-clockwise.

The constants reproduce the published data set. Compared with 358 published images (86 squares, 71 ellipses, 201
hearts), the mean intersection over union is 1.00000 for squares, 0.99951 for ellipses and 0.99992 for hearts: 352
images are equal, the others differ in one or two pixels on the outline (tests/data/dsprites/test_renderer.py).

Images are bit-packed: 512 bytes each, rows from top to bottom, 8 bytes a row, the leftmost pixel in the highest bit, as
`numpy.packbits` does with the flattened image.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from deft_lightning.data.factors import FactorSpace

SPACE = FactorSpace(("shape", "scale", "orientation", "posX", "posY"), (3, 6, 40, 32, 32))
BYTES = 64 * 64 // 8
"""Bytes of one bit-packed image."""
VERSION = 1
"""To be raised when the pixels change, so that caches of an older renderer are rebuilt."""

_PATCH = 30  # pixels; no sprite reaches further than 13.6 from its centre
_SCALES = np.linspace(0.5, 1.0, 6)
_ANGLES = np.linspace(0.0, 2.0 * np.pi, 40)
_CENTRES = 16.0 + 32.0 * np.linspace(0.0, 1.0, 32)
_FIRST = np.floor(_CENTRES).astype(np.int64) - _PATCH // 2  # first pixel of the patch for each position
_PIXELS = _FIRST[:, None] + np.arange(_PATCH)  # [32, 30]
_OFFSETS = _PIXELS + 0.5 - _CENTRES[:, None]  # [32, 30]: pixel centres relative to the sprite's centre

_SQUARE_HALF_SIDE = 9.6
_SUBPIXELS = 256  # the published squares have their vertices on a grid of 1/256 pixel
_ELLIPSE_AXES = (12.765, 7.2125)
_HEART_HALF_WIDTH = 9.59397
_HEART_SERIES = (-1.43433, -8.60543, 3.31557, 1.32690, 0.66345)  # of 1, cos T, cos 2T, cos 3T, cos 4T


def blocks() -> Iterator[np.ndarray]:
    """All images of dSprites in the order of `SPACE`, bit-packed: 720 blocks of uint8 [1024, 512]."""
    return (render(*combination) for combination in np.ndindex(*SPACE.sizes[:3]))


def render(shape: int, scale: int, orientation: int) -> np.ndarray:
    """The images of one shape, scale and orientation at all positions, bit-packed, uint8 [1024, 512].

    Arguments are factor values; posY changes fastest, as in `SPACE`.
    """
    inside = (_square, _ellipse, _heart)[shape](_SCALES[scale], _ANGLES[orientation])  # [posY, 30, posX, 30]
    # Place the patches, columns first: packing the columns before placing the rows keeps the arrays small.
    columns = np.zeros((32, _PATCH, 32, 64), bool)
    for x, first in enumerate(_FIRST):
        columns[:, :, x, first : first + _PATCH] = inside[:, :, x]
    bits = np.packbits(columns, axis=-1)  # [posY, 30, posX, 8]
    images = np.zeros((32, 32, 64, 8), np.uint8)  # [posX, posY, row, byte]
    for y, first in enumerate(_FIRST):
        images[:, y, first : first + _PATCH] = bits[y].swapaxes(0, 1)
    return images.reshape(1024, BYTES)


def unpack(packed: np.ndarray) -> np.ndarray:
    """Images uint8 {0, 1} [B, 64, 64] from bit-packed images uint8 [B, 512]."""
    return np.unpackbits(packed, axis=-1).reshape(-1, 64, 64)


def _canonical(scale: float, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Pixel centres in the sprite's own axes, both [posY, 30, posX, 30]: across u and down v."""
    dx, dy = _OFFSETS / scale, _OFFSETS[:, :, None, None] / scale
    return np.cos(angle) * dx - np.sin(angle) * dy, np.sin(angle) * dx + np.cos(angle) * dy


def _ellipse(scale: float, angle: float) -> np.ndarray:
    u, v = _canonical(scale, angle)
    u /= _ELLIPSE_AXES[0]
    v /= _ELLIPSE_AXES[1]
    return u * u + v * v < 1.0


def _heart(scale: float, angle: float) -> np.ndarray:
    """The curve u = a sin^3 T, v = Y(T) with the series Y in cos nT; inside is Y(T) < v < Y(pi - T).

    The even terms of Y are the middle of that interval and the odd ones half its length. Both are polynomials in
    c = cos T, and c^2 = 1 - (|u| / a)^(2/3), so that no angle is computed.
    """
    one, cos1, cos2, cos3, cos4 = _HEART_SERIES
    u, v = _canonical(scale, angle)
    u /= _HEART_HALF_WIDTH
    cc = 1.0 - np.cbrt(u * u)
    middle = (one - cos2 + cos4) + cc * (2.0 * cos2 - 8.0 * cos4 + 8.0 * cos4 * cc)
    half = np.sqrt(np.maximum(cc, 0.0)) * (3.0 * cos3 - cos1 - 4.0 * cos3 * cc)  # 0 where |u| > a
    return np.abs(v - middle) < half


def _square(scale: float, angle: float) -> np.ndarray:
    """Four edges between vertices rounded to 1/256 pixel; with integers, ties are exact.

    A pixel centre on an edge is inside on the left and the bottom edge, outside on the top and the right edge.
    """
    cos, sin, half = np.cos(angle), np.sin(angle), _SQUARE_HALF_SIDE * scale
    corners = np.array([(-half, -half), (half, -half), (half, half), (-half, half)])  # clockwise on the screen
    x = np.rint(_SUBPIXELS * (_CENTRES + (corners @ (cos, sin))[:, None])).astype(np.int32)  # [4, posX]
    y = np.rint(_SUBPIXELS * (_CENTRES + (corners @ (-sin, cos))[:, None])).astype(np.int32)  # [4, posY]
    centres = (_SUBPIXELS * _PIXELS + _SUBPIXELS // 2).astype(np.int32)
    inside = np.ones((32, _PATCH, 32, _PATCH), bool)
    for start, end in ((0, 1), (1, 2), (2, 3), (3, 0)):
        along_x = (x[end] - x[start])[:, None]  # [posX, 1]
        along_y = (y[end] - y[start])[:, None, None, None]  # [posY, 1, 1, 1]
        down = (centres - y[start][:, None])[:, :, None, None]  # [posY, 30, 1, 1]
        right = centres - x[start][:, None]  # [posX, 30]
        distance = along_x * down - along_y * right  # > 0 on the inner side of a clockwise edge
        left_or_bottom = (along_y < 0) | ((along_y == 0) & (along_x < 0))
        inside &= distance >= np.where(left_or_bottom, 0, 1)
    return inside

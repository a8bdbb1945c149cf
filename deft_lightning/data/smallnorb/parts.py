"""Convex parts of toys, quadrics cut by half-spaces: a ray crosses each in one interval.

Lengths are in any unit; x points forward, y left and z up.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import ConvexHull

Array = NDArray[np.float64]
PAINT, TRIM, DARK = 0.85, 0.55, 0.16  # reflectances: of the toys, of minor parts, and of glass and rubber


@dataclass(frozen=True)
class Part:
    """The convex set {x: (x - centre)' quadric (x - centre) <= 1 and normals x <= offsets}.

    quadric: [3, 3], or None where only half-spaces bound the part; normals: [K, 3]; offsets: [K];
    outline: [P, 3], points whose convex hull contains the part; albedo: reflectance in [0, 1].
    """

    centre: Array
    quadric: Array | None
    normals: Array
    offsets: Array
    outline: Array
    albedo: float

    def extent(self, directions: Array) -> tuple[Array, Array]:
        """Minimum and maximum of directions @ x over the points x of the part, [V] each, for directions [V, 3]."""
        if self.quadric is not None and not len(self.normals):  # an ellipsoid
            middle = directions @ self.centre
            half = np.sqrt(np.einsum("vi,ij,vj->v", directions, np.linalg.inv(self.quadric), directions))
            return middle - half, middle + half
        along = directions @ self.outline.T
        return along.min(axis=1), along.max(axis=1)

    def placed(self, scale: float, shift: Array) -> Part:
        """The part after x -> scale * x + shift."""
        return Part(
            centre=scale * self.centre + shift,
            quadric=None if self.quadric is None else self.quadric / scale**2,
            normals=self.normals,
            offsets=scale * self.offsets + self.normals @ shift,
            outline=scale * self.outline + shift,
            albedo=self.albedo,
        )


def _frame(direction: Array) -> Array:
    """[3, 3] orthonormal rows, the first along `direction`."""
    first = direction / np.linalg.norm(direction)
    helper = np.array([0.0, 0.0, 1.0]) if abs(first[2]) < 0.9 else np.array([0.0, 1.0, 0.0])
    second = np.cross(helper, first)
    second /= np.linalg.norm(second)
    return np.stack([first, second, np.cross(first, second)])


def _corners(frame: Array, radii: ArrayLike, centre: Array) -> Array:
    return centre + np.array(list(product((-1, 1), repeat=3))) * np.asarray(radii) @ frame


def ellipsoid(centre: ArrayLike, radii: ArrayLike, albedo: float = PAINT, along: ArrayLike = (1, 0, 0)) -> Part:
    """An ellipsoid whose first radius points along `along`."""
    middle, frame = np.asarray(centre, float), _frame(np.asarray(along, float))
    quadric = frame.T @ np.diag(1 / np.square(np.asarray(radii, float))) @ frame
    axes = np.asarray(radii)[:, None] * frame
    outline = np.concatenate([middle + axes, middle - axes])
    return Part(middle, quadric, np.zeros((0, 3)), np.zeros(0), outline, albedo)


def limb(start: ArrayLike, end: ArrayLike, radius: float, albedo: float = PAINT) -> Part:
    """An ellipsoid from one joint to another that reaches a little beyond both."""
    a, b = np.asarray(start, float), np.asarray(end, float)
    half = float(np.linalg.norm(b - a)) / 2 + radius * 0.4
    return ellipsoid((a + b) / 2, (half, radius, radius), albedo, along=b - a)


def rod(start: ArrayLike, end: ArrayLike, radius: float, albedo: float = PAINT) -> Part:
    """A cylinder with flat ends."""
    a, b = np.asarray(start, float), np.asarray(end, float)
    frame = _frame(b - a)
    quadric = frame.T @ np.diag([0, 1 / radius**2, 1 / radius**2]) @ frame
    normals = np.stack([frame[0], -frame[0]])
    offsets = np.array([frame[0] @ b, -frame[0] @ a])
    outline = _corners(frame, (float(np.linalg.norm(b - a)) / 2, radius, radius), (a + b) / 2)
    return Part((a + b) / 2, quadric, normals, offsets, outline, albedo)


def hull(points: ArrayLike, albedo: float = PAINT) -> Part:
    """The convex hull of points [P, 3]."""
    corners = np.asarray(points, float)
    # Qhull cuts every face into triangles, so equal planes are merged.
    planes = np.unique(ConvexHull(corners).equations.round(9), axis=0)
    return Part(corners.mean(axis=0), None, planes[:, :3], -planes[:, 3], corners, albedo)


def block(
    bottom: tuple[float, float], top: tuple[float, float], widths: tuple[float, float], heights: tuple[float, float],
    albedo: float = PAINT,
) -> Part:  # fmt: skip
    """A box with slanting ends: (rear x, front x) of `bottom` and `top`, their widths, (low z, high z)."""
    rows = zip((bottom, top), widths, heights, strict=True)
    return hull([(x, y, z) for ends, w, z in rows for x in ends for y in (-w / 2, w / 2)], albedo)

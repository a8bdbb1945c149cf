"""Renders images with the factors, counts and size of SmallNORB: fifty toys on a turntable, and a distant camera."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample

from deft_lightning.data.factors import FactorSpace
from deft_lightning.data.smallnorb.parts import Part
from deft_lightning.data.smallnorb.rays import Rays, Surfaces, surfaces, trace
from deft_lightning.data.smallnorb.toys import CATEGORIES, INSTANCES, build

ELEVATIONS = tuple(range(30, 75, 5))  # degrees above the ground, as in the published set
AZIMUTHS = tuple(range(0, 360, 20))  # degrees by which the turntable is turned
# Of each lighting: azimuth of the lamp in degrees from the camera (positive to the right), its height in degrees, the
# strength of its light, and of the diffuse light.
LIGHTINGS = (
    (-75, 35, 0.95, 0.22),  # from the left
    (75, 35, 0.95, 0.22),  # from the right
    (160, 40, 0.95, 0.20),  # from behind
    (-20, 80, 0.55, 0.60),  # bright, from above
    (40, 60, 0.45, 0.10),  # dim, from the front right
    (-135, 50, 0.50, 0.38),  # from the left and behind, half diffuse
)
SPACE = FactorSpace(
    ("category", "instance", "elevation", "azimuth", "lighting"),
    (len(CATEGORIES), INSTANCES, len(ELEVATIONS), len(AZIMUTHS), len(LIGHTINGS)),
    nuisance=("instance",),
)
VERSION = 1
"""To be raised when the pixels change, so that caches of an older renderer are rebuilt."""

REACH = 1.12  # half the side of an image, in radii of the toy
SHADOW_SIDE, SHADOW_REACH = 80, 3.0  # side in pixels, and half the side in radii, of the shadow map on the ground


def _directions(azimuth: NDArray, height: NDArray) -> NDArray:
    """Unit vectors [..., 3] at an azimuth about the vertical and a height above the ground, in radians."""
    return np.stack([np.cos(height) * np.cos(azimuth), np.cos(height) * np.sin(azimuth), np.sin(height)], axis=-1)


def _pixel_centres(count: int, reach: float) -> NDArray:
    return (np.arange(count) + 0.5) / count * 2 * reach - reach


def _shadows(parts: Sequence[Part], lamps: NDArray) -> Tensor:
    """The fraction of each lamp's light that reaches the ground around the toy, [L, side, side]; lamps are [L, 3]."""
    count = len(lamps)
    grid = _pixel_centres(SHADOW_SIDE, SHADOW_REACH)
    east, north = np.tile([1.0, 0.0, 0.0], (count, 1)), np.tile([0.0, 1.0, 0.0], (count, 1))
    rays = Rays(east, north, lamps, np.zeros(3), grid, grid)
    sky = torch.full((count, SHADOW_SIDE, SHADOW_SIDE), torch.inf)
    lit = (trace(parts, rays, sky)[1] == 0).float()
    # Two box filters soften the edges of the shadow.
    for _ in range(2):
        lit = avg_pool2d(lit[None], 3, stride=1, padding=1, count_include_pad=False)[0]
    return lit


def _brightness(number: Tensor, points: Tensor, table: Surfaces, lamp: NDArray, lamps: NDArray, lit: Tensor) -> Tensor:
    """Brightness [L, N] by Lambert's law, for points [3, N] on surfaces `number` [N].

    lamp: [L, 4], rows of `LIGHTINGS`; lamps: [L, 3], their directions; lit: [L, side, side], their shadow maps.
    """
    normals = torch.stack([
        table.constant[:, i][number] + sum(table.curvature[:, i, j][number] * points[j] for j in range(3))
        for i in range(3)
    ])  # fmt: skip
    normals = normals * normals.square().sum(dim=0).rsqrt_()  # [3, N]
    where = (points[:2] / SHADOW_REACH).T[None, :, None, :]  # [1, N, 1, 2]
    on_ground = grid_sample(lit[None], where, padding_mode="border", align_corners=False)[0, :, :, 0]
    direct = (torch.from_numpy(np.float32(lamps)) @ normals).clamp_(min=0)
    direct *= torch.where(number == 0, on_ground, 1.0)  # shadows fall on the ground only
    strength, diffuse = torch.from_numpy(np.float32(lamp[:, 2:])).T[:, :, None]
    return table.albedo[number] * (strength * direct + diffuse * (0.75 + 0.25 * normals[2]))


def _turned(
    parts: Sequence[Part], table: Surfaces, azimuth: float, elevations: Sequence[int],
    lightings: Sequence[int], size: int, supersample: int,
) -> NDArray[np.uint8]:  # fmt: skip
    """Images of one toy at one azimuth of the turntable, [E, L, size, size]."""
    # The toy does not move; the camera and the lamps turn the other way.
    camera = np.full(len(elevations), -np.radians(azimuth))
    towards = _directions(camera, np.radians(np.array([ELEVATIONS[i] for i in elevations], float)))
    right = np.stack([-np.sin(camera), np.cos(camera), np.zeros_like(camera)], axis=-1)
    top = max(part.outline[:, 2].max() for part in parts)
    grid = _pixel_centres(size * supersample, REACH)
    rays = Rays(right, np.cross(towards, right), -towards, np.array([0, 0, top / 2]), grid, -grid)
    ground, _ = rays.meet(np.array([0.0, 0.0, 1.0]), 0.0)
    depth, number = trace(parts, rays, ground)

    lamp = np.array([LIGHTINGS[i] for i in lightings], float)
    lamps = _directions(-np.radians(azimuth) + np.radians(lamp[:, 0]), np.radians(lamp[:, 1]))
    points = rays.points(depth).flatten(1)  # [3, E S S]
    bright = _brightness(number.flatten().long(), points, table, lamp, lamps, _shadows(parts, lamps))
    bright = bright.reshape(len(lightings), len(elevations), len(grid), len(grid))
    pixels = avg_pool2d(bright, supersample)  # [L, E, size, size]
    return pixels.mul(255).round_().clamp_(0, 255).to(torch.uint8).transpose(0, 1).contiguous().numpy()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Limit torch to one thread: the tensors are small, and on a busy machine threads wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def render(
    category: int,
    instance: int,
    elevations: Sequence[int] = range(len(ELEVATIONS)),
    azimuths: Sequence[int] = range(len(AZIMUTHS)),
    lightings: Sequence[int] = range(len(LIGHTINGS)),
    size: int = 64,
    supersample: int = 2,
) -> NDArray[np.uint8]:
    """Views of one toy, grey, uint8 [elevations, azimuths, lightings, size, size].

    Arguments are factor values: 0 to 4, 0 to 9, 0 to 8, 0 to 17 and 0 to 5. Each pixel is the mean of
    `supersample` x `supersample` rays.
    """
    parts = build(category, instance)
    table = surfaces(parts)
    with _one_thread():
        views = [_turned(parts, table, AZIMUTHS[turn], elevations, lightings, size, supersample) for turn in azimuths]
    return np.stack(views, axis=1)


def blocks(space: FactorSpace = SPACE) -> Iterator[NDArray[np.uint8]]:
    """All images in the order of `space`, a block of uint8 [views, 64, 64] for every toy.

    A space smaller than `SPACE` has the first values of every factor.
    """
    categories, instances, elevations, azimuths, lightings = (range(size) for size in space.sizes)
    for category, instance in product(categories, instances):
        yield render(category, instance, elevations, azimuths, lightings).reshape(-1, 64, 64)

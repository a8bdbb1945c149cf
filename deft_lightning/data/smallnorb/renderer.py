"""A stand-in for SmallNORB: the same factors, counts and image size, rendered from fifty convex-part toys.

Rays are parallel, so that a ray's crossing of a quadric or a half-space is a polynomial in the pixel's column
and row: all views of one toy are intersected in closed form, without marching and without meshes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample

from deft_lightning.data.factors import FactorSpace
from deft_lightning.data.smallnorb.parts import Part
from deft_lightning.data.smallnorb.toys import CATEGORIES, INSTANCES, build

ELEVATIONS = tuple(range(30, 75, 5))  # degrees above the ground, as in the official set
AZIMUTHS = tuple(range(0, 360, 20))  # degrees the turntable has turned
# Per lighting: azimuth of the lamp in degrees seen from the camera (positive is to the right), its height in
# degrees, the strength of its light, and of the light that comes from everywhere.
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
"""Of the pictures: raise it when they change, and cached sets are rendered again."""

GROUND = 0.55  # reflectance of the turntable
REACH = 1.12  # half the side of the picture, in radii of the toy
SHADOW_SIDE, SHADOW_REACH = 80, 3.0  # pixels and half side of the shadow's map on the ground


@dataclass(frozen=True)
class Surfaces:
    """Every surface of one toy, so that a normal is one table look-up: gradient(x) = curvature x + constant.

    curvature [N, 3, 3] (zero for planes), constant [N, 3], albedo [N]; surface 0 is the ground.
    """

    curvature: Tensor
    constant: Tensor
    albedo: Tensor


def surfaces(parts: Sequence[Part]) -> Surfaces:
    """The table that `trace` numbers its surfaces by: per part its quadric, if it has one, then its planes."""
    curvature, constant, albedo = [np.zeros((3, 3))], [np.array([0.0, 0.0, 1.0])], [GROUND]
    for part in parts:
        if part.quadric is not None:
            curvature.append(part.quadric)
            constant.append(-part.quadric @ part.centre)
            albedo.append(part.albedo)
        curvature.extend([np.zeros((3, 3))] * len(part.normals))
        constant.extend(part.normals)
        albedo.extend([part.albedo] * len(part.normals))
    tables = (torch.tensor(np.array(table), dtype=torch.float32) for table in (curvature, constant, albedo))
    return Surfaces(*tables)


@dataclass(frozen=True)
class Rays:
    """Parallel rays of V views, origin + a right + b up + t forward, over columns a [S] and rows b [S].

    right, up, forward: [V, 3] float64, need not be orthonormal; origin: [3].
    """

    right: NDArray[np.float64]
    up: NDArray[np.float64]
    forward: NDArray[np.float64]
    origin: NDArray[np.float64]
    a: NDArray[np.float64]
    b: NDArray[np.float64]

    def plane(self, on_column: NDArray, on_row: NDArray, constant: NDArray) -> Tensor:
        """[V, S, S]: constant + on_column * a + on_row * b, coefficients [V]."""
        columns = torch.from_numpy(np.float32(constant[:, None] + on_column[:, None] * self.a))
        rows = torch.from_numpy(np.float32(on_row[:, None] * self.b))
        return columns[:, None, :] + rows[:, :, None]

    def meet(self, normal: NDArray, offset: float) -> tuple[Tensor, Tensor]:
        """The t [V, S, S] at which normal x = offset, and whether rays enter the half-space there [V, 1, 1]."""
        slope = self.forward @ normal
        slope = np.where(np.abs(slope) < 1e-6, 1e-6, slope)  # parallel: far ahead of a ray inside, else far behind
        columns, rows = self.right @ normal, self.up @ normal
        t = self.plane(-columns / slope, -rows / slope, (offset - normal @ self.origin) / slope)
        return t, torch.from_numpy(slope < 0)[:, None, None]

    def window(self, part: Part) -> tuple[slice, slice]:
        """The rows and columns that can meet `part` in any view."""
        dual = np.linalg.inv(np.stack([self.right, self.up, self.forward], axis=-1))  # [V, 3, 3]: x to (a, b, t)
        spans = []
        for grid, directions in ((self.b, dual[:, 1]), (self.a, dual[:, 0])):
            low, high = part.extent(directions)
            start = directions @ self.origin
            inside = np.flatnonzero((grid >= (low - start).min()) & (grid <= (high - start).max()))
            spans.append(slice(inside[0], inside[-1] + 1) if len(inside) else slice(0, 0))
        return spans[0], spans[1]

    def points(self, t: Tensor) -> Tensor:
        """[3, V, S, S]: the points at distance t [V, S, S]."""
        axes = zip(self.right.T, self.up.T, self.forward.T, self.origin, strict=True)
        return torch.stack([
            self.plane(right, up, np.full_like(up, start))
            + t * torch.from_numpy(np.float32(forward))[:, None, None]
            for right, up, forward, start in axes
        ])  # fmt: skip


def _quadric_interval(rays: Rays, part: Part) -> tuple[Tensor, Tensor]:
    """Where rays enter and leave a part's quadric, [V, S, S] each; NaN where they miss it."""
    matrix = part.quadric
    assert matrix is not None
    start = rays.origin - part.centre

    def form(x: NDArray, y: NDArray) -> NDArray:
        return np.einsum("...i,ij,...j->...", x, matrix, y)

    right, up, forward = rays.right, rays.up, rays.forward
    lead = np.maximum(form(forward, forward), 1e-9)
    # t^2 lead + 2 t half + rest = 0, halved and divided by lead; half and rest are polynomials in a and b.
    half_a, half_b, half_0 = (form(forward, other) / lead for other in (right, up, start))
    rest_0 = (form(start, start) - 1) / lead
    middle = rays.plane(-half_a, -half_b, -half_0)
    # The discriminant half^2 - rest, in double precision up to its six coefficients.
    on_a = 2 * (half_a * half_0 - form(right, start) / lead)
    on_b = 2 * (half_b * half_0 - form(up, start) / lead)
    on_aa, on_bb = half_a**2 - form(right, right) / lead, half_b**2 - form(up, up) / lead
    on_ab = 2 * (half_a * half_b - form(right, up) / lead)
    a, b = rays.a, rays.b
    columns = (half_0**2 - rest_0)[:, None] + on_a[:, None] * a + on_aa[:, None] * a**2
    rows = on_b[:, None] * b + on_bb[:, None] * b**2
    across = torch.from_numpy(np.float32(on_ab[:, None] * a))
    root = torch.from_numpy(np.float32(columns))[:, None, :] + torch.from_numpy(np.float32(rows))[:, :, None]
    root = root.addcmul_(across[:, None, :], torch.from_numpy(np.float32(b))[None, :, None]).sqrt_()
    return middle - root, middle + root


def trace(parts: Sequence[Part], rays: Rays, depth: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest surface on each ray.

    depth: [V, S, S], the t of what lies behind everything (surface 0). Returns the nearest t and the number
    of the surface there (int32, in the order of `surfaces`), both [V, S, S].
    """
    best, winner = depth.clone(), torch.zeros(depth.shape, dtype=torch.int32)
    number = 1
    for part in parts:
        rows, columns = rays.window(part)
        crop = replace(rays, a=rays.a[columns], b=rays.b[rows])
        shape = (len(rays.forward), len(crop.b), len(crop.a))
        face = torch.full(shape, number, dtype=torch.int32)
        if part.quadric is not None:
            near, far = _quadric_interval(crop, part)
            number += 1
        else:
            near, far = torch.full(shape, -torch.inf), torch.full(shape, torch.inf)
        for normal, offset in zip(part.normals, part.offsets, strict=True):
            t, entering = crop.meet(normal, offset)
            face.masked_fill_(entering & (t > near), number)
            near = torch.where(entering, torch.maximum(near, t), near)
            far = torch.where(entering, far, torch.minimum(far, t))
            number += 1
        before, kept = best[:, rows, columns], winner[:, rows, columns]  # views of the whole pictures
        hit = (near <= far) & (near < before)  # false for NaN: the ray misses the quadric
        before.copy_(torch.where(hit, near, before))
        kept.copy_(torch.where(hit, face, kept))
    return best, winner


def _directions(azimuth: NDArray, height: NDArray) -> NDArray:
    """[..., 3]: unit vectors at angles in radians about the vertical and above the ground."""
    return np.stack([np.cos(height) * np.cos(azimuth), np.cos(height) * np.sin(azimuth), np.sin(height)], axis=-1)


def _pixel_centres(count: int, reach: float) -> NDArray:
    return (np.arange(count) + 0.5) / count * 2 * reach - reach


def _shadows(parts: Sequence[Part], lamps: NDArray) -> Tensor:
    """[L, side, side]: the share of each lamp's light that reaches the ground around the toy, lamps [L, 3]."""
    count = len(lamps)
    grid = _pixel_centres(SHADOW_SIDE, SHADOW_REACH)
    east, north = np.tile([1.0, 0.0, 0.0], (count, 1)), np.tile([0.0, 1.0, 0.0], (count, 1))
    rays = Rays(east, north, lamps, np.zeros(3), grid, grid)
    sky = torch.full((count, SHADOW_SIDE, SHADOW_SIDE), torch.inf)
    lit = (trace(parts, rays, sky)[1] == 0).float()
    # Two box filters make the penumbra.
    for _ in range(2):
        lit = avg_pool2d(lit[None], 3, stride=1, padding=1, count_include_pad=False)[0]
    return lit


def _brightness(number: Tensor, points: Tensor, table: Surfaces, lamp: NDArray, lamps: NDArray, lit: Tensor) -> Tensor:
    """[L, N]: Lambert's law for points [3, N] on surfaces `number` [N], lamps [L, 3], shadow maps lit [L, s, s]."""
    normals = torch.stack([
        table.constant[:, i][number] + sum(table.curvature[:, i, j][number] * points[j] for j in range(3))
        for i in range(3)
    ])  # fmt: skip
    normals = normals * normals.square().sum(dim=0).rsqrt_()  # [3, N]
    where = (points[:2] / SHADOW_REACH).T[None, :, None, :]  # [1, N, 1, 2]
    on_ground = grid_sample(lit[None], where, padding_mode="border", align_corners=False)[0, :, :, 0]
    direct = (torch.from_numpy(np.float32(lamps)) @ normals).clamp_(min=0)
    direct *= torch.where(number == 0, on_ground, 1.0)  # only the ground takes shadows
    strength, diffuse = torch.from_numpy(np.float32(lamp[:, 2:])).T[:, :, None]
    return table.albedo[number] * (strength * direct + diffuse * (0.75 + 0.25 * normals[2]))


def _turned(
    parts: Sequence[Part], table: Surfaces, azimuth: float, elevations: Sequence[int],
    lightings: Sequence[int], size: int, supersample: int,
) -> NDArray[np.uint8]:  # fmt: skip
    """[E, L, size, size]: one toy at one turn of the table."""
    # The toy stays; the camera and the lamps turn the other way.
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
    """Keep torch to one thread: the tensors are small, and on a busy machine threads wait for one another."""
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
    """All asked views of one toy, grey, uint8 [elevations, azimuths, lightings, size, size].

    Arguments are factor values: 0 to 4, 0 to 9, 0 to 8, 0 to 17 and 0 to 5. Each pixel is the mean of
    `supersample` x `supersample` rays.
    """
    parts = build(category, instance)
    table = surfaces(parts)
    with _one_thread():
        views = [_turned(parts, table, AZIMUTHS[turn], elevations, lightings, size, supersample) for turn in azimuths]
    return np.stack(views, axis=1)


def blocks(space: FactorSpace = SPACE) -> Iterator[NDArray[np.uint8]]:
    """All images in the order of `space`, toy by toy, each uint8 [views, 64, 64].

    A smaller space than `SPACE` takes the first values of every factor.
    """
    categories, instances, elevations, azimuths, lightings = (range(size) for size in space.sizes)
    for category, instance in product(categories, instances):
        yield render(category, instance, elevations, azimuths, lightings).reshape(-1, 64, 64)

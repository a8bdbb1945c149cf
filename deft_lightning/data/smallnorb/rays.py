"""Ray casting of convex parts: the nearest surface on every ray of several views, in closed form.

Rays are parallel, so that the point where a ray crosses a quadric or a half-space is a polynomial in the column and row
of its pixel: all views of a toy are computed at once, without marching and without meshes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deft_lightning.data.smallnorb.parts import Part

GROUND = 0.55  # reflectance of the turntable


@dataclass(frozen=True)
class Surfaces:
    """A table of the N surfaces of one toy. The normal of a surface at x points along curvature x + constant.

    curvature: [N, 3, 3], zero for planes; constant: [N, 3]; albedo: [N]. Surface 0 is the ground.
    """

    curvature: Tensor
    constant: Tensor
    albedo: Tensor


def surfaces(parts: Sequence[Part]) -> Surfaces:
    """The surfaces as `trace` numbers them: the ground, then of every part the quadric, if any, and the planes."""
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
    """Parallel rays of V views: origin + a right + b up + t forward, for columns a [S] and rows b [S].

    right, up, forward: [V, 3] float64, not necessarily orthonormal; origin: [3].
    """

    right: NDArray[np.float64]
    up: NDArray[np.float64]
    forward: NDArray[np.float64]
    origin: NDArray[np.float64]
    a: NDArray[np.float64]
    b: NDArray[np.float64]

    def plane(self, on_column: NDArray, on_row: NDArray, constant: NDArray) -> Tensor:
        """constant + on_column * a + on_row * b, [V, S, S], with coefficients [V]."""
        columns = torch.from_numpy(np.float32(constant[:, None] + on_column[:, None] * self.a))
        rows = torch.from_numpy(np.float32(on_row[:, None] * self.b))
        return columns[:, None, :] + rows[:, :, None]

    def meet(self, normal: NDArray, offset: float) -> tuple[Tensor, Tensor]:
        """The t at which normal x = offset, [V, S, S], and whether rays enter the half-space there, [V, 1, 1]."""
        slope = self.forward @ normal
        slope = np.where(np.abs(slope) < 1e-6, 1e-6, slope)  # parallel rays: far ahead if inside, else far behind
        columns, rows = self.right @ normal, self.up @ normal
        t = self.plane(-columns / slope, -rows / slope, (offset - normal @ self.origin) / slope)
        return t, torch.from_numpy(slope < 0)[:, None, None]

    def window(self, part: Part) -> tuple[slice, slice]:
        """The rows and columns whose rays may meet `part` in some view."""
        dual = np.linalg.inv(np.stack([self.right, self.up, self.forward], axis=-1))  # [V, 3, 3]: x to (a, b, t)
        spans = []
        for grid, directions in ((self.b, dual[:, 1]), (self.a, dual[:, 0])):
            low, high = part.extent(directions)
            start = directions @ self.origin
            inside = np.flatnonzero((grid >= (low - start).min()) & (grid <= (high - start).max()))
            spans.append(slice(inside[0], inside[-1] + 1) if len(inside) else slice(0, 0))
        return spans[0], spans[1]

    def points(self, t: Tensor) -> Tensor:
        """The points at distance t [V, S, S], [3, V, S, S]."""
        axes = zip(self.right.T, self.up.T, self.forward.T, self.origin, strict=True)
        return torch.stack([
            self.plane(right, up, np.full_like(up, start))
            + t * torch.from_numpy(np.float32(forward))[:, None, None]
            for right, up, forward, start in axes
        ])  # fmt: skip


def _quadric_interval(rays: Rays, part: Part) -> tuple[Tensor, Tensor]:
    """The t at which rays enter and leave a part's quadric, [V, S, S] each; NaN where they miss it."""
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
    # The discriminant half^2 - rest; its six coefficients are in double precision.
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

    depth: [V, S, S], the t of the background, surface 0. Returns the t of the nearest surface and its number, int32 in
    the order of `surfaces`, both [V, S, S].
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
        before, kept = best[:, rows, columns], winner[:, rows, columns]  # views, written to below
        hit = (near <= far) & (near < before)  # false for NaN, where the ray misses the quadric
        before.copy_(torch.where(hit, near, before))
        kept.copy_(torch.where(hit, face, kept))
    return best, winner

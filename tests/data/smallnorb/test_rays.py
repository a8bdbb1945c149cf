from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch

from deft_lightning.data.smallnorb.parts import Part, ellipsoid, hull, rod
from deft_lightning.data.smallnorb.rays import GROUND, Rays, surfaces, trace
from deft_lightning.data.smallnorb.toys import CATEGORIES, INSTANCES, build

BOX = hull([*product((-0.3, 0.3), (-0.5, 0.5), (-0.2, 0.2))])


def camera(azimuth: float, elevation: float, side: int, reach: float = 1.5) -> Rays:
    """One view of side x side rays towards the origin, angles in radians."""
    towards = np.array([[
        math.cos(elevation) * math.cos(azimuth), math.cos(elevation) * math.sin(azimuth), math.sin(elevation)
    ]])  # fmt: skip
    right = np.array([[-math.sin(azimuth), math.cos(azimuth), 0.0]])
    grid = ((np.arange(side) + 0.5) / side * 2 - 1) * reach
    return Rays(right, np.cross(towards, right), -towards, np.zeros(3), grid, -grid)


def sky(rays: Rays) -> torch.Tensor:
    return torch.full((len(rays.forward), len(rays.b), len(rays.a)), torch.inf)


def quadric(part: Part, points: np.ndarray) -> np.ndarray:
    """(x - centre)' quadric (x - centre) for points x [3, N]."""
    offset = points - part.centre[:, None]
    return np.einsum("in,ij,jn->n", offset, part.quadric, offset)


def inside(part: Part, points: np.ndarray, slack: float = 0.0) -> np.ndarray:
    """Which of points [3, N] the part contains, from the definition; `slack` makes it larger."""
    contained = np.ones(points.shape[1], bool)
    if part.quadric is not None:
        contained &= quadric(part, points) <= 1 + slack
    if len(part.normals):
        contained &= (part.normals @ points <= part.offsets[:, None] + slack).all(axis=0)
    return contained


@pytest.mark.parametrize(("azimuth", "elevation"), [(0.3, 0.6), (-2.0, 1.1), (1.4, 0.52), (3.0, 0.9)])
def test_silhouettes_have_the_area_of_the_closed_form(azimuth, elevation):
    rays = camera(azimuth, elevation, 600)
    pixel = (3 / 600) ** 2
    view = np.abs(rays.forward[0])

    def area(part: Part) -> float:
        return float((trace([part], rays, sky(rays))[1] > 0).sum()) * pixel

    # A box shows each of its three pairs of faces once, foreshortened; an ellipsoid shows an ellipse.
    assert area(BOX) == pytest.approx(view @ (1.0 * 0.4, 0.6 * 0.4, 0.6 * 1.0), rel=5e-3)
    radii = np.array([0.7, 0.4, 0.2])
    shadow = math.pi * radii.prod() * np.linalg.norm(view / radii)
    assert area(ellipsoid((0.1, -0.2, 0.1), radii)) == pytest.approx(shadow, rel=5e-3)
    # An upright cylinder: a rectangle between two half ellipses.
    cylinder = rod((0, 0, -0.4), (0, 0, 0.4), 0.3)
    expected = 0.8 * 0.6 * math.cos(elevation) + math.pi * 0.09 * math.sin(elevation)
    assert area(cylinder) == pytest.approx(expected, rel=5e-3)


@pytest.mark.parametrize("category", range(len(CATEGORIES)))
def test_the_nearest_surface_is_where_the_definition_has_it(category):
    """Outside every part just before the hit, inside one just after; outside all along a ray that misses."""
    for instance, angle in enumerate(np.linspace(0, 6, INSTANCES)):
        parts = build(category, instance)
        rays = camera(angle, 0.7, 48)
        depth, number = (result.flatten() for result in trace(parts, rays, sky(rays)))
        hit = number > 0
        assert hit.float().mean() > 0.03  # a thin toy is small in this picture

        def anywhere(t: torch.Tensor, slack: float, parts=parts, rays=rays, hit=hit) -> np.ndarray:
            points = rays.points(t.reshape(1, 48, 48)).flatten(1).double().numpy()
            return np.logical_or.reduce([inside(part, points, slack) for part in parts])

        depth = torch.where(hit, depth, 0.0)
        assert not anywhere(depth - 1e-3, -1e-4)[hit].any()
        assert anywhere(depth + 1e-4, 1e-3)[hit].all()
        for step in np.linspace(-1.5, 2.5, 81):
            t = torch.where(hit, depth - 0.01 - (step + 1.5), torch.tensor(step, dtype=torch.float32))
            assert not anywhere(t, -1e-4).any()


@pytest.mark.parametrize("toy", [(0, 3), (2, 0), (3, 2), (4, 7)])
def test_the_number_of_a_surface_is_that_of_the_table(toy):
    """The hit lies on the numbered surface: its normal points at the camera, and its own equation holds."""
    parts = build(*toy)
    rays = camera(0.4, 0.7, 64)
    depth, number = (result.flatten() for result in trace(parts, rays, sky(rays)))
    points = rays.points(depth.reshape(1, 64, 64)).flatten(1)[:, number > 0]
    number = number[number > 0].long()
    table = surfaces(parts)
    normals = torch.einsum("nij,jn->ni", table.curvature[number], points) + table.constant[number]
    normals /= normals.norm(dim=1, keepdim=True)
    assert (normals @ torch.from_numpy(rays.forward[0]).float()).max() < 1e-2
    equations = [lambda x: np.zeros(x.shape[1])]  # the ground, which no ray has hit here
    albedo = [GROUND]
    for part in parts:
        if part.quadric is not None:
            equations.append(lambda x, p=part: quadric(p, x) - 1)
        equations += [lambda x, n=n, d=d: n @ x - d for n, d in zip(part.normals, part.offsets, strict=True)]
        albedo += [part.albedo] * (len(equations) - len(albedo))
    for which in number.unique().tolist():
        on = points[:, number == which].double().numpy()
        assert np.abs(equations[which](on)).max() < 2e-3
    assert table.albedo.tolist() == pytest.approx(albedo)


@pytest.mark.parametrize("toy", [(0, 2), (1, 9), (2, 4), (3, 3)])
def test_cropping_to_a_part_loses_nothing(toy, monkeypatch):
    parts = build(*toy)
    views = [camera(azimuth, elevation, 64) for azimuth, elevation in ((0.0, 0.5), (2.0, 1.2), (math.pi, 0.9))]
    rays = Rays(*(np.concatenate([getattr(v, n) for v in views]) for n in ("right", "up", "forward")),
                np.array([0.1, 0.2, 0.5]), views[0].a, views[0].b)  # fmt: skip
    slanting = Rays(rays.right, np.roll(rays.right, 1, axis=1), rays.forward, rays.origin, rays.a, rays.b)
    cropped = [trace(parts, each, sky(each)) for each in (rays, slanting)]
    monkeypatch.setattr(Rays, "window", lambda *_: (slice(None), slice(None)))
    for each, (depth, number) in zip((rays, slanting), cropped, strict=True):
        whole = trace(parts, each, sky(each))
        assert torch.equal(depth, whole[0])
        assert torch.equal(number, whole[1])


def test_rays_along_a_face_meet_the_inside_only():
    """A camera that looks exactly along two faces of a box sees the third, and nothing beside it."""
    rays = Rays(np.array([[0.0, 1, 0]]), np.array([[0.0, 0, 1]]), np.array([[-1.0, 0, 0]]), np.zeros(3),
                *[np.linspace(-0.95, 0.95, 20)] * 2)  # fmt: skip
    depth, number = trace([BOX], rays, sky(rays))
    expected = (np.abs(rays.b) < 0.2)[:, None] & (np.abs(rays.a) < 0.5)
    assert np.array_equal(number[0].numpy() > 0, expected)
    assert torch.allclose(depth[0][expected], torch.tensor(-0.3))

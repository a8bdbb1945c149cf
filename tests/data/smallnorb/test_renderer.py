from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch

from deft_lightning.data import FactorSpace
from deft_lightning.data.smallnorb import renderer
from deft_lightning.data.smallnorb.parts import Part, ellipsoid, hull, limb, rod
from deft_lightning.data.smallnorb.renderer import (
    AZIMUTHS,
    ELEVATIONS,
    LIGHTINGS,
    Rays,
    blocks,
    render,
    surfaces,
    trace,
)
from deft_lightning.data.smallnorb.toys import CATEGORIES, INSTANCES, build

TOYS = [*product(range(len(CATEGORIES)), range(INSTANCES))]
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


# The ray caster


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
    albedo = [renderer.GROUND]
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


def test_a_box_has_six_faces_and_moves_as_told():
    assert len(BOX.normals) == 6
    moved = BOX.placed(2.0, np.array([1.0, 0, 0]))
    assert np.allclose(moved.extent(np.eye(3)), ([0.4, -1, -0.4], [1.6, 1, 0.4]))
    leg = limb((0, 0, 0), (0, 0, 2), 0.5).placed(0.5, np.array([0, 1.0, 0]))
    assert np.allclose(leg.extent(np.eye(3)), ([-0.25, 0.75, -0.1], [0.25, 1.25, 1.1]))


# The toys


@pytest.mark.parametrize("toy", TOYS)
def test_a_toy_stands_on_the_ground_and_fills_its_ball(toy):
    points = np.concatenate([part.outline for part in build(*toy)])
    assert points[:, 2].min() == pytest.approx(0, abs=1e-9)
    middle = np.array([0, 0, points[:, 2].max() / 2])
    assert np.linalg.norm(points - middle, axis=1).max() == pytest.approx(1)


def test_no_two_toys_are_alike():
    pictures = np.stack([render(*toy, [3], [2], [3])[0, 0, 0] for toy in TOYS]).astype(int).reshape(len(TOYS), -1)
    differences = np.abs(pictures[:, None] - pictures).mean(axis=2)[~np.eye(len(TOYS), dtype=bool)]
    assert differences.min() > 2


# The pictures


@pytest.mark.parametrize("toy", [(c, i) for c in (0, 2, 4) for i in (0, 5, 9)])
def test_lamps_from_left_and_right_are_mirror_images(toy):
    """These toys are symmetric: seen from the front, what the left lamp does the right one does mirrored."""
    left, right = render(*toy, [0, 8], [0], [0, 1])[:, 0].transpose(1, 0, 2, 3).astype(int)
    assert np.abs(left - right).mean() > 5
    assert np.abs(left - right[..., ::-1]).max() <= 2


def test_light_from_the_left_brightens_the_left_and_shades_the_right():
    toy = (0, 9)  # a pig: round
    lit = {name: render(*toy, [2], [0], [light])[0, 0, 0].astype(int) for name, light in (("left", 0), ("right", 1))}
    ground = int(lit["left"][0, 0])
    assert lit["left"][:, :10].min() > ground - 5  # no shadow on the lamp's side
    assert lit["left"][:, 54:].min() < ground - 40
    difference = lit["left"] - lit["right"]
    assert difference[20:44, 20:30].mean() > 10 > -10 > difference[20:44, 34:44].mean()


def test_turning_the_table_turns_the_toy_to_the_left_as_the_front_passes():
    """Azimuth 90 degrees apart: a long truck is long across the picture, and its cab is on one side only."""
    quarter = AZIMUTHS.index(80)
    front, side = render(3, 5, [0], [0, quarter], [3])[0, :, 0].astype(int)
    background = int(front[0, 0])

    def width(image: np.ndarray) -> int:
        return int(np.flatnonzero((np.abs(image - background) > 40).any(axis=0)).size)

    assert width(side) > 1.6 * width(front)
    dark = side < 70  # glass and rubber; the windscreen is where the cab is
    upper = dark[:36]
    assert upper[:, 40:].sum() > 10 * max(1, upper[:, :24].sum())


@pytest.mark.parametrize(("axis", "threshold"), [("elevation", 1.0), ("azimuth", 2.0), ("lighting", 3.0)])
@pytest.mark.parametrize("category", range(len(CATEGORIES)))
def test_neighbouring_values_of_every_factor_look_different(category, axis, threshold):
    """Mean absolute difference of grey levels between a picture and the next; the ground is most of it."""
    place = renderer.SPACE.names.index(axis) - 2
    for instance in (0, 7):
        values = [[4], [3], [0]]
        values[place] = list(range(renderer.SPACE.sizes[place + 2]))
        strip = np.moveaxis(render(category, instance, *values), place, 0).astype(int).reshape(len(values[place]), -1)
        pairs = np.abs(strip[:, None] - strip).mean(axis=2)[~np.eye(len(strip), dtype=bool)]
        assert pairs.min() > threshold


@pytest.mark.parametrize("toy", TOYS[::3])
def test_front_and_back_differ(toy):
    """Half a turn never gives the same picture, whatever the azimuth."""
    views = render(*toy, [2], range(18), [3])[0, :, 0].astype(int)
    assert np.abs(views - np.roll(views, 9, axis=0)).mean(axis=(1, 2)).min() > 2


def test_a_toy_never_touches_the_border():
    for toy in ((0, 2), (1, 8), (2, 5), (3, 5), (4, 7)):
        views = render(*toy, range(0, 9, 4), range(0, 18, 3), [3], supersample=1)
        border = np.concatenate([views[..., 0, :], views[..., -1, :], views[..., :, 0], views[..., :, -1]], axis=-1)
        assert int(border.max()) - int(border.min()) < 60  # ground, with or without a faint shadow
        assert int(views.max()) - int(views.min()) > 120


def test_a_part_of_the_views_is_that_part_of_all():
    everything = render(1, 4, range(9), [0, 5, 17], range(6))
    assert everything.shape == (9, 3, 6, 64, 64)
    assert everything.dtype == np.uint8
    assert np.array_equal(render(1, 4, [8, 2], [17, 5], [3])[:, :, 0], everything[[8, 2]][:, [2, 1], 3])
    assert render(1, 4, [0], [0], [0], size=32, supersample=1).shape == (1, 1, 1, 32, 32)


def test_all_images_come_in_the_order_of_the_space():
    space = FactorSpace(renderer.SPACE.names, (2, 2, 2, 2, 2))
    images = np.concatenate(list(blocks(space)))
    assert images.shape == (32, 64, 64)
    for index, (category, instance, *view) in enumerate(product(range(2), repeat=5)):
        assert np.array_equal(images[index], render(category, instance, *([value] for value in view))[0, 0, 0])


def test_the_space_is_that_of_smallnorb():
    assert renderer.SPACE.sizes == (5, 10, 9, 18, 6)
    assert ELEVATIONS == (30, 35, 40, 45, 50, 55, 60, 65, 70)
    assert len(set(LIGHTINGS)) == 6


def test_rendering_leaves_threads_and_random_numbers_alone():
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    render(4, 0, [0], [0], [0])
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)

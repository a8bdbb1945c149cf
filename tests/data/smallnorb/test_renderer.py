from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from deft_lightning.data import FactorSpace
from deft_lightning.data.smallnorb import renderer
from deft_lightning.data.smallnorb.renderer import AZIMUTHS, ELEVATIONS, LIGHTINGS, blocks, render
from deft_lightning.data.smallnorb.toys import CATEGORIES, INSTANCES

TOYS = [*product(range(len(CATEGORIES)), range(INSTANCES))]


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

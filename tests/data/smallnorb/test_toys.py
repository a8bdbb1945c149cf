from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from deft_lightning.data.smallnorb.parts import hull, limb
from deft_lightning.data.smallnorb.renderer import render
from deft_lightning.data.smallnorb.toys import CATEGORIES, INSTANCES, build

TOYS = [*product(range(len(CATEGORIES)), range(INSTANCES))]


def test_a_box_has_six_faces_and_parts_move_and_scale():
    box = hull([*product((-0.3, 0.3), (-0.5, 0.5), (-0.2, 0.2))])
    assert len(box.normals) == 6
    moved = box.placed(2.0, np.array([1.0, 0, 0]))
    assert np.allclose(moved.extent(np.eye(3)), ([0.4, -1, -0.4], [1.6, 1, 0.4]))
    leg = limb((0, 0, 0), (0, 0, 2), 0.5).placed(0.5, np.array([0, 1.0, 0]))
    assert np.allclose(leg.extent(np.eye(3)), ([-0.25, 0.75, -0.1], [0.25, 1.25, 1.1]))


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

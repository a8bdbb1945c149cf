"""The fifty toys of the rendered SmallNORB: five categories with ten instances each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from deft_lightning.data.smallnorb.creatures import ANIMALS, HUMANS, animal, human
from deft_lightning.data.smallnorb.parts import Part
from deft_lightning.data.smallnorb.vehicles import AIRPLANES, CARS, TRUCKS, airplane, car, truck

CATEGORIES = ("animal", "human", "airplane", "truck", "car")
INSTANCES = 10

# For each category a function from proportions to parts, and the proportions of the ten instances.
_MODELS: tuple[tuple[Callable[[Sequence[float]], list[Part]], Sequence[Sequence[float]]], ...] = (
    (animal, ANIMALS),
    (human, HUMANS),
    (airplane, AIRPLANES),
    (truck, TRUCKS),
    (car, CARS),
)


def build(category: int, instance: int) -> list[Part]:
    """The parts of one toy, scaled to stand on z = 0 inside the ball of radius 1 around (0, 0, half its height)."""
    model, rows = _MODELS[category]
    parts = model(rows[instance])
    points = np.concatenate([part.outline for part in parts])
    low, high = points.min(axis=0), points.max(axis=0)
    middle = (low + high) / 2
    scale = 1 / np.linalg.norm(points - middle, axis=1).max()
    shift = -scale * np.array([middle[0], middle[1], low[2]])
    return [part.placed(scale, shift) for part in parts]

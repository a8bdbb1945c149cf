"""Toy airplanes, trucks and cars: ten instances each, made of convex parts.

Lengths are in any unit; x points forward, y left and z up, and a toy stands on z = 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deft_lightning.data.smallnorb.parts import DARK, TRIM, Array, Part, block, ellipsoid, hull, rod

# Of each airplane: length, fuselage radius, half the wing span, chord at the root, chord at the tip, how far the tip is
# swept back, wing position forward of the middle, wing height in fuselage radii, half the tail span, fin height,
# number of engines under each wing.
AIRPLANES = (
    (4.0, 0.28, 2.0, 0.90, 0.35, 0.90, 0.20, -0.3, 0.75, 0.80, 1),  # airliner
    (3.2, 0.24, 2.1, 0.60, 0.45, 0.00, 0.40, 0.9, 0.70, 0.60, 0),  # high-wing light plane
    (3.8, 0.24, 1.3, 1.60, 0.25, 1.40, -0.3, 0.0, 0.60, 0.75, 0),  # fighter, delta wing
    (4.4, 0.42, 2.2, 0.95, 0.40, 0.85, 0.15, -0.4, 0.85, 0.95, 2),  # four-engined jumbo
    (2.8, 0.30, 1.9, 0.70, 0.65, 0.00, 0.45, -0.8, 0.80, 0.50, 0),  # stubby trainer
    (4.0, 0.22, 2.5, 0.50, 0.28, 0.15, 0.25, 0.8, 0.70, 0.55, 0),  # glider
    (3.4, 0.38, 2.2, 0.80, 0.60, 0.05, 0.25, 1.0, 1.00, 0.95, 2),  # transport
    (4.6, 0.22, 1.1, 2.00, 0.15, 1.80, -0.5, -0.3, 0.45, 0.80, 1),  # supersonic
    (3.0, 0.26, 1.7, 0.75, 0.50, -0.35, 0.10, 0.0, 0.60, 0.70, 0),  # forward-swept
    (3.6, 0.32, 1.9, 0.85, 0.45, 0.40, 0.30, -0.6, 0.75, 0.65, 1),  # business twin
)


def _blade(root: Sequence[float], tip: Sequence[float], chords: tuple[float, float], across: Array) -> Part:
    """A wing or fin: two points of its leading edge, its chords there, and half its thickness at the root."""
    ends = ((np.asarray(root, float), chords[0], 1.0), (np.asarray(tip, float), chords[1], 0.5))
    return hull([
        edge - (depth, 0, 0) + side * shrink * across
        for edge, chord, shrink in ends
        for depth in (0, chord)
        for side in (-1, 1)
    ])  # fmt: skip


def airplane(row: Sequence[float]) -> list[Part]:
    """The parts of the airplane with the proportions in a row of `AIRPLANES`."""
    length, radius, span, root, tip, sweep, forward, high, tail, fin, engines = row
    axis, half = radius + 0.3, length / 2
    wing_z, lead, stern = axis + high * radius, forward + root / 2, -half * 0.72
    up, flat = np.array([0, 0, 0.05]), np.array([0, 0.05, 0])
    parts = [
        ellipsoid((0, 0, axis), (half, radius, radius)),
        ellipsoid((half * 0.62, 0, axis + radius * 0.62), (half * 0.17, radius * 0.55, radius * 0.45), DARK),
        ellipsoid((half * 0.93, 0, axis), (half * 0.12, radius * 0.5, radius * 0.5), DARK),  # the nose
        _blade(
            (stern, 0, axis),
            (stern - 0.35 * fin, 0, axis + radius * 0.5 + fin),
            (half * 0.4, half * 0.2),
            flat,
        ),
        rod((half * 0.6, 0, axis), (half * 0.6, 0, 0), 0.07, DARK),
    ]
    for side in (-1, 1):
        wing_tip = (lead - sweep, side * span, wing_z + 0.12)
        parts += [
            _blade((lead, 0, wing_z), wing_tip, (root, tip), up),
            _blade(
                (stern, 0, axis + 0.1),
                (stern - 0.25, side * tail, axis + 0.15),
                (half * 0.3, half * 0.18),
                up,
            ),
            rod((-0.15, side * radius * 0.8, axis), (-0.15, side * radius * 1.2, 0), 0.08, DARK),
        ]
        for number in range(int(engines)):
            at = (0.36 + 0.3 * number) if engines > 1 else 0.42
            front = lead - at * sweep + 0.3
            z = wing_z - 0.16 + 0.12 * at
            parts.append(rod((front - 0.75, side * at * span, z), (front, side * at * span, z), 0.16, TRIM))
    return parts


# Of each truck: cab length, cab height, bed length, load height, width, gap behind the cab, bonnet length, wheel
# radius, load (0 box, 1 tank, 2 open tipper, 3 logs, 4 flat bed with a crate).
TRUCKS = (
    (0.80, 1.05, 2.3, 1.45, 1.05, 0.12, 0.00, 0.27, 0),
    (0.75, 1.10, 2.4, 0.95, 1.00, 0.15, 0.45, 0.27, 1),
    (0.85, 1.15, 1.6, 0.85, 1.20, 0.10, 0.00, 0.38, 2),
    (0.80, 1.00, 2.6, 0.75, 1.00, 0.20, 0.40, 0.26, 3),
    (0.70, 0.95, 2.0, 0.60, 0.95, 0.05, 0.00, 0.24, 4),
    (0.95, 1.35, 3.0, 1.70, 1.15, 0.25, 0.55, 0.30, 0),
    (0.70, 1.00, 1.5, 1.10, 1.10, 0.08, 0.00, 0.30, 1),
    (0.80, 1.20, 1.9, 0.95, 1.10, 0.10, 0.50, 0.42, 2),
    (0.65, 0.90, 1.3, 1.15, 0.90, 0.02, 0.30, 0.22, 0),
    (0.90, 1.30, 2.4, 0.90, 1.25, 0.15, 0.00, 0.34, 4),
)


def _wheels(places: Sequence[float], width: float, radius: float, depth: float) -> list[Part]:
    """A pair of wheels at each x."""
    return [
        rod((x, side * (width / 2 - depth), radius), (x, side * (width / 2 + 0.03), radius), radius, DARK)
        for x in places
        for side in (-1, 1)
    ]


def _load(kind: int, rear: float, front: float, floor: float, height: float, width: float) -> list[Part]:
    half, top = width / 2, floor + height
    if kind == 0:
        return [block((rear, front), (rear, front), (width, width), (floor, top))]
    if kind == 1:
        radius = height / 2
        return [rod((rear, 0, floor + radius), (front, 0, floor + radius), radius)]
    if kind == 2:  # a floor and four leaning walls
        walls = [
            hull([(x, side * y, z) for z, ys in ((floor, (0.75, 0.85)), (top, (0.95, 1.05)))
                  for y in (ys[0] * half, ys[1] * half) for x in (rear, front)])
            for side in (-1, 1)
        ]  # fmt: skip
        ends = [block((x, x + 0.1), (x, x + 0.1), (width * 0.8, width), (floor, top)) for x in (rear, front - 0.1)]
        return [*walls, *ends, ellipsoid(((rear + front) / 2, 0, floor + height * 0.35),
                                         ((front - rear) * 0.45, half * 0.85, height * 0.5), TRIM)]  # fmt: skip
    if kind == 3:
        radius = min(half / 2, height / 3)
        rows = [(-radius, radius), (radius, radius), (0, radius * 2.7)]
        return [rod((rear, y, floor + z), (front - 0.1 * z, y, floor + z), radius, TRIM) for y, z in rows]
    middle = (rear + front) / 2
    return [
        block((rear, front), (rear, front), (width, width), (floor, floor + 0.1)),
        block((rear + 0.3, middle), (rear + 0.3, middle), (width * 0.7, width * 0.7), (floor + 0.1, top), TRIM),
    ]


def truck(row: Sequence[float]) -> list[Part]:
    """The parts of the truck with the proportions in a row of `TRUCKS`."""
    cab, tall, bed, height, width, gap, bonnet, radius, kind = row
    floor, front = radius * 1.25, cab + bonnet
    sill, rear, axle = floor + tall * 0.5, -bed - gap, max(front - radius * 1.5, 0.2)
    glass, panes = (width * 0.86, width * 0.8), (width + 0.03, width * 0.95)
    parts = [
        block((rear, front), (rear, front), (width * 0.8, width * 0.8), (floor - 0.14, floor), DARK),
        block((0, cab), (0, cab), (width, width), (floor, sill)),
        block((0, cab), (0, cab - 0.22), (width, width * 0.92), (sill, floor + tall)),
        # The glass is slightly in front of the cab, so that which of the two is nearer never depends on rounding.
        block((cab - 0.3, cab + 0.03), (cab - 0.3, cab - 0.15), glass, (sill, floor + tall * 0.92), DARK),
        block((0.15, cab - 0.12), (0.15, cab - 0.25), panes, (sill, floor + tall * 0.85), DARK),
        *_load(int(kind), rear, -gap, floor, height, width * 1.05),
        *_wheels((rear + radius * 1.2, rear + radius * 3.4, axle), width, radius, 0.2),
    ]
    if bonnet:
        parts.append(block((cab - 0.05, front), (cab - 0.05, front - 0.06), (width * 0.9, width * 0.75), (floor, sill)))
    for side in (-1, 1):
        parts.append(ellipsoid((front, side * width * 0.33, floor + 0.15), (0.06, 0.1, 0.1), 1.0))
    return parts


# Of each car: length, width, body height, bonnet length, boot length, cabin height, slant of the windscreen, slant of
# the rear window, wheel radius, height of the bonnet at the nose as a fraction of the body height.
CARS = (
    (3.2, 1.30, 0.50, 0.95, 0.60, 0.48, 0.40, 0.30, 0.28, 0.80),  # saloon
    (2.6, 1.25, 0.52, 0.70, 0.05, 0.55, 0.35, 0.10, 0.27, 0.80),  # hatchback
    (3.4, 1.40, 0.42, 1.35, 0.25, 0.36, 0.45, 0.70, 0.30, 0.60),  # sports coupe
    (3.3, 1.30, 0.55, 0.90, 0.05, 0.55, 0.40, 0.12, 0.29, 0.85),  # estate
    (2.9, 1.40, 0.72, 0.75, 0.05, 0.62, 0.22, 0.06, 0.42, 0.95),  # off-roader
    (2.2, 1.20, 0.48, 0.50, 0.15, 0.62, 0.35, 0.40, 0.25, 0.75),  # city car
    (3.0, 1.35, 0.60, 0.40, 0.02, 0.75, 0.35, 0.05, 0.28, 0.90),  # minibus
    (3.6, 1.45, 0.46, 0.90, 0.80, 0.34, 0.70, 0.60, 0.31, 0.62),  # mid-engined racer
    (3.4, 1.35, 0.58, 1.00, 1.20, 0.52, 0.30, 0.08, 0.34, 0.90),  # pick-up
    (2.7, 1.30, 0.50, 0.75, 0.65, 0.62, 0.60, 0.75, 0.28, 0.65),  # beetle
)


def car(row: Sequence[float]) -> list[Part]:
    """The parts of the car with the proportions in a row of `CARS`."""
    length, width, height, bonnet, boot, cabin, screen, window, radius, nose = row
    front, low = length / 2, radius * 0.7
    deck, foot, heel = low + height, front - bonnet, -front + boot
    side_view = (
        (foot, low), (foot, deck), (front - 0.06, low + height * nose), (front, low + 0.12), (front, low)
    )  # fmt: skip
    roof_z, roof = deck + cabin, (heel + window, foot - screen)
    lamps = low + height * nose * 0.62
    bumper = (-front - 0.05, -front + 0.1)
    parts = [
        block((-front, foot), (-front + 0.08, foot), (width, width), (low, deck)),
        hull([(x, y, z) for y in (-width / 2, width / 2) for x, z in side_view]),
        block((heel, foot), roof, (width * 0.92, width * 0.72), (deck, roof_z - 0.05), DARK),
        block(roof, roof, (width * 0.76, width * 0.7), (roof_z - 0.06, roof_z)),
        block(bumper, bumper, (width * 0.8, width * 0.8), (low, low + 0.14), DARK),
        *_wheels((-front + radius * 1.7, front - radius * 1.8), width, radius, 0.22),
    ]
    for side in (-1, 1):
        parts.append(ellipsoid((front - 0.04, side * width * 0.36, lamps), (0.08, 0.13, 0.1), 1.0))
    return parts

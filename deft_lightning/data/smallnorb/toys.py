"""The fifty toys of the SmallNORB stand-in: five categories, ten proportions of each.

A toy is a union of convex parts. Models are written with x forward, y left and z up, standing on z = 0, in
any unit; `build` centres them on the turntable's axis and scales them to one size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from deft_lightning.data.smallnorb.parts import Array, Part, block, ellipsoid, hull, limb, rod

CATEGORIES = ("animal", "human", "airplane", "truck", "car")
INSTANCES = 10
TRIM, DARK = 0.55, 0.16  # reflectances of lesser parts, and of glass and rubber


# Per animal: body length, girth (radius), leg length, leg radius, neck length, neck angle in degrees above
# the horizontal, head radius, snout length, tail length, ear or horn length.
ANIMALS = (
    (2.2, 0.44, 1.15, 0.13, 1.00, 50, 0.26, 0.50, 0.8, 0.20),  # horse
    (2.3, 0.62, 0.75, 0.17, 0.50, 15, 0.34, 0.45, 0.9, 0.40),  # cow
    (1.7, 0.42, 1.50, 0.12, 1.90, 68, 0.24, 0.40, 0.6, 0.25),  # giraffe
    (2.3, 0.85, 0.85, 0.27, 0.35, 20, 0.52, 1.00, 0.5, 0.65),  # elephant
    (2.5, 0.70, 0.50, 0.22, 0.40, -5, 0.42, 0.65, 0.4, 0.18),  # rhinoceros
    (2.1, 0.46, 0.75, 0.16, 0.45, 35, 0.48, 0.30, 1.2, 0.12),  # lion
    (1.9, 0.68, 0.55, 0.24, 0.35, 20, 0.44, 0.40, 0.1, 0.22),  # bear
    (1.5, 0.34, 0.65, 0.10, 0.45, 45, 0.28, 0.40, 0.7, 0.32),  # dog
    (1.8, 0.38, 1.10, 0.09, 0.75, 60, 0.22, 0.35, 0.2, 0.75),  # stag
    (1.6, 0.56, 0.28, 0.16, 0.25, 5, 0.38, 0.35, 0.3, 0.22),  # pig
)


def _animal(row: Sequence[float]) -> list[Part]:
    length, girth, leg, thick, neck, angle, head, snout, tail, ear = row
    back, half = leg + girth, length / 2
    aim = np.array([np.cos(np.radians(angle)), 0, np.sin(np.radians(angle))])
    shoulder = np.array([half * 0.75, 0, back + girth * 0.25])
    rump = back + girth * 0.4
    skull = shoulder + aim * (neck + head * 0.5)
    parts = [
        ellipsoid((0, 0, back), (half, girth * 0.85, girth)),
        ellipsoid((half * 0.55, 0, back + girth * 0.05), (girth, girth * 0.9, girth * 1.02)),
        limb(shoulder - aim * girth * 0.4, skull, max(head * 0.75, girth * 0.45)),
        ellipsoid(skull, (head, head * 0.85, head)),
        limb(skull, skull + np.array([snout + head * 0.5, 0, -snout * 0.6 - head * 0.2]), head * 0.52, TRIM),
        limb((-half * 0.9, 0, rump), (-half - tail * 0.5, 0, rump - tail * 0.75), 0.1, DARK),
    ]
    for x in (-half * 0.68, half * 0.68):
        for side in (-1, 1):
            parts.append(rod((x, side * girth * 0.55, back), (x, side * girth * 0.6, 0), thick))
    for side in (-1, 1):
        root = skull + np.array([-head * 0.2, side * head * 0.5, head * 0.5])
        tip = skull + np.array([-head * 0.3, side * (head + ear) * 0.6, head * 0.7 + ear * 0.8])
        parts.append(limb(root, tip, 0.07 + ear * 0.14, DARK))
    return parts


# Per figure: leg length, trunk length, shoulder half-width, girth, head radius, stride, left arm and right arm
# raised by so many degrees from hanging, pack depth on the back, hat radius.
HUMANS = (
    (1.00, 0.80, 0.36, 0.24, 0.22, 0.30, 35, 80, 0.00, 0.00),
    (0.85, 0.85, 0.44, 0.34, 0.23, 0.15, 60, 60, 0.28, 0.00),
    (1.10, 0.75, 0.32, 0.19, 0.20, 0.45, 100, 20, 0.00, 0.34),
    (0.70, 0.70, 0.36, 0.30, 0.28, 0.20, 140, 40, 0.00, 0.00),
    (1.05, 0.85, 0.46, 0.27, 0.22, 0.10, 80, 80, 0.22, 0.38),
    (0.95, 0.75, 0.34, 0.42, 0.24, 0.20, 30, 110, 0.00, 0.00),
    (1.00, 0.80, 0.38, 0.25, 0.22, 0.60, 65, 150, 0.20, 0.00),
    (0.80, 0.60, 0.30, 0.22, 0.30, 0.10, 50, 25, 0.00, 0.45),
    (1.15, 0.80, 0.40, 0.24, 0.20, 0.35, 160, 160, 0.00, 0.00),
    (0.90, 0.90, 0.50, 0.38, 0.25, 0.25, 90, 45, 0.32, 0.30),
)


def _human(row: Sequence[float]) -> list[Part]:
    leg, trunk, shoulder, girth, head, stride, left, right, pack, hat = row
    neck = leg + trunk
    parts = [
        ellipsoid((0, 0, leg + trunk * 0.5), (trunk * 0.62, girth * 1.15, girth * 0.85), along=(0, 0, 1)),
        ellipsoid((0, 0, neck - 0.14), (shoulder * 0.55, shoulder, 0.2)),
        ellipsoid((0.02, 0, neck + head * 0.9), (head * 0.95, head * 0.85, head * 1.1)),
        ellipsoid((head * 0.62, 0, neck + head * 0.9), (head * 0.5, head * 0.62, head * 0.7), DARK),  # the face
    ]
    for side, raised in ((1, left), (-1, right)):
        angle, length = np.radians(raised), trunk * 0.52
        joint = np.array([0, side * (shoulder + 0.02), neck - 0.1])
        elbow = joint + length * np.array([np.sin(angle), side * 0.25, -np.cos(angle)])
        bend = np.radians(min(raised + 35, 170))
        hand = elbow + length * np.array([np.sin(bend), -side * 0.1, -np.cos(bend)])
        step = side * stride * 0.5
        hip, foot = np.array([0, side * girth * 0.5, leg + 0.05]), np.array([step, side * girth * 0.75, 0])
        parts += [
            limb(joint, elbow, 0.12),
            limb(elbow, hand, 0.11, TRIM),
            rod(hip, foot, 0.09 + girth * 0.22),
            block((step - 0.14, step + 0.4), (step - 0.1, step + 0.28), (0.26, 0.2), (0, 0.16), DARK).placed(
                1.0, np.array([0, side * girth * 0.75, 0])
            ),
        ]
    if pack:
        low, high = leg + trunk * 0.25, neck
        parts.append(
            block((-girth - pack, -girth * 0.4), (-girth - pack, -girth * 0.4), (0.5, 0.44), (low, high), TRIM)
        )
    if hat:
        brim = neck + head * 1.55
        parts.append(rod((0, 0, brim), (0, 0, brim + 0.06), hat, TRIM))
        parts.append(rod((0, 0, brim), (0, 0, brim + 0.22), hat * 0.55, TRIM))
    return parts


# Per airplane: length, fuselage radius, wing half-span, chord at the root, chord at the tip, sweep of the tip
# backwards, wing position forward of the middle, wing height in fuselage radii, tail half-span, fin height,
# engines under each wing.
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
    """A wing or fin from root to tip (both leading edges), `chords` deep, half as thick as `across` is long."""
    ends = ((np.asarray(root, float), chords[0], 1.0), (np.asarray(tip, float), chords[1], 0.5))
    return hull([
        edge - (depth, 0, 0) + side * shrink * across
        for edge, chord, shrink in ends
        for depth in (0, chord)
        for side in (-1, 1)
    ])  # fmt: skip


def _airplane(row: Sequence[float]) -> list[Part]:
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


# Per truck: cab length, cab height, bed length, load height, width, gap behind the cab, bonnet length, wheel
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


def _truck(row: Sequence[float]) -> list[Part]:
    cab, tall, bed, height, width, gap, bonnet, radius, kind = row
    floor, front = radius * 1.25, cab + bonnet
    sill, rear, axle = floor + tall * 0.5, -bed - gap, max(front - radius * 1.5, 0.2)
    glass, panes = (width * 0.86, width * 0.8), (width + 0.03, width * 0.95)
    parts = [
        block((rear, front), (rear, front), (width * 0.8, width * 0.8), (floor - 0.14, floor), DARK),
        block((0, cab), (0, cab), (width, width), (floor, sill)),
        block((0, cab), (0, cab - 0.22), (width, width * 0.92), (sill, floor + tall)),
        # Glass stands a hair in front of the cab, else the two planes would fight.
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


# Per car: length, width, body height, bonnet length, boot length, cabin height, slant of the windscreen, slant
# of the rear window, wheel radius, height of the bonnet at the nose as a share of the body.
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


def _car(row: Sequence[float]) -> list[Part]:
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


_MODELS: tuple[tuple[Callable[[Sequence[float]], list[Part]], Sequence[Sequence[float]]], ...] = (
    (_animal, ANIMALS),
    (_human, HUMANS),
    (_airplane, AIRPLANES),
    (_truck, TRUCKS),
    (_car, CARS),
)


def build(category: int, instance: int) -> list[Part]:
    """The parts of one toy, standing on z = 0, in the ball of radius 1 about (0, 0, half its height)."""
    model, rows = _MODELS[category]
    parts = model(rows[instance])
    points = np.concatenate([part.outline for part in parts])
    low, high = points.min(axis=0), points.max(axis=0)
    middle = (low + high) / 2
    scale = 1 / np.linalg.norm(points - middle, axis=1).max()
    shift = -scale * np.array([middle[0], middle[1], low[2]])
    return [part.placed(scale, shift) for part in parts]

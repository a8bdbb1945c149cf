"""Toy animals and humans: ten instances each, made of convex parts.

Lengths are in any unit; x points forward, y left and z up, and a toy stands on z = 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deft_lightning.data.smallnorb.parts import DARK, TRIM, Part, block, ellipsoid, limb, rod

# Of each animal: body length, girth (radius), leg length, leg radius, neck length, neck angle in degrees above the
# horizontal, head radius, snout length, tail length, ear or horn length.
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


def animal(row: Sequence[float]) -> list[Part]:
    """The parts of the animal with the proportions in a row of `ANIMALS`."""
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


# Of each human: leg length, trunk length, half the shoulder width, girth, head radius, stride, angle of the left and of
# the right arm in degrees (0 hangs down), depth of the backpack, hat radius.
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


def human(row: Sequence[float]) -> list[Part]:
    """The parts of the human with the proportions in a row of `HUMANS`."""
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

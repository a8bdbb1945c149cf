"""Latents that encode positions along axes rotated by a known angle are recognised as such."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deft_lightning.metrics import nmi
from deft_lightning.report.loading import Record
from deft_lightning.report.positions import Alignment, alignment_of, decided
from tests.report import factory

FACTORS = list(factory.FACTORS)


def matrix(angle: float, noise: float = 0.15, latents: int = 10) -> list[list[float]]:
    """The NMI [D, 5] of latents of which the 4th and the 8th encode posX and posY, rotated by `angle` degrees."""
    random = np.random.default_rng(0)
    factors = np.stack([random.integers(size, size=8000) for size in (3, 6, 40, 32, 32)], axis=1)
    codes = random.normal(size=(8000, latents))
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    position = (factors[:, 3:] - 15.5) / 15.5
    codes[:, [3, 7]] = position @ np.array([[cos, -sin], [sin, cos]]) + noise * random.normal(size=(8000, 2))
    return nmi(codes, factors).tolist()


@pytest.mark.parametrize("noise", [0.05, 0.3])
@pytest.mark.parametrize("angle", [0, 15, 30, 38, 45, 52, 60, 75, 90, 135])
def test_the_angle_decides(angle: float, noise: float) -> None:
    expected = Alignment.ROTATED if angle in (38, 45, 52, 135) else Alignment.SEPARATE
    assert alignment_of(matrix(angle, noise), FACTORS) is expected


def test_the_order_of_latents_and_factors_does_not_matter() -> None:
    rotated = np.array(matrix(45))
    shuffled = rotated[::-1][:, [4, 0, 3, 2, 1]]
    assert alignment_of(shuffled.tolist(), [FACTORS[k] for k in (4, 0, 3, 2, 1)]) is Alignment.ROTATED


def test_latents_that_know_nothing_are_not_rotated() -> None:
    """Two latents without information have equal NMI, near 0, with every factor; nor is one latent enough."""
    assert alignment_of(matrix(45, noise=20.0), FACTORS) is Alignment.NOT_LEARNT
    one = np.full((10, 5), 0.01)
    one[2, 3:] = 0.3
    assert alignment_of(one.tolist(), FACTORS) is Alignment.NOT_LEARNT


@pytest.mark.parametrize("wrong", [[], [[0.1] * 5], [[0.1] * 4] * 10])
def test_without_both_positions_or_a_matrix_there_is_no_answer(wrong: list[list[float]]) -> None:
    assert alignment_of(wrong, FACTORS) is None
    assert alignment_of(matrix(45), ["category", "elevation", "azimuth", "light", "posX"]) is None


@pytest.mark.parametrize(
    ("angles", "expected"),
    [
        ([45, 40, 45, 45], (Alignment.ROTATED, 1)),
        ([0, 45, 45, 45], (Alignment.ROTATED, 2)),
        ([45, 45, 45, 0], (Alignment.SEPARATE, 4)),
        ([45, 0, 45], (Alignment.ROTATED, 3)),
        ([0], (Alignment.SEPARATE, 1)),
    ],
)
def test_it_is_decided_in_the_stage_since_which_nothing_changed(angles: list[float], expected: Any) -> None:
    stages = {f"stage_{j}": {"nmi": matrix(angle)} for j, angle in enumerate(angles, start=1)}
    assert decided(Record(Path(), {"data": {"factors": FACTORS}, "stages": stages})) == expected


def test_runs_without_positions_are_not_judged() -> None:
    assert decided(Record(Path(), {"data": {"factors": None}, "stages": {"stage_1": {"nmi": matrix(45)}}})) is None
    assert decided(Record(Path(), {"data": {"factors": FACTORS}, "stages": {"stage_1": {"scores": {}}}})) is None
    assert decided(Record(Path(), {"data": {"factors": FACTORS}})) is None


def test_stages_keep_their_numbers_in_a_run_that_starts_from_another() -> None:
    stages = {f"stage_{j}": {"nmi": matrix(angle), "scores": {"mig": j / 10}} for j, angle in ((3, 0), (4, 45))}
    run = Record(Path(), {"data": {"factors": FACTORS}, "stages": stages})
    assert decided(run) == (Alignment.ROTATED, 4)
    assert [run.stage_scores(number).get("mig") for number in (1, 2, 3, 4)] == [None, None, 0.3, 0.4]
    assert run.scores == {"mig": 0.4}

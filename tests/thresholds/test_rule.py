"""Stages from thresholds: cases with a clear answer, and the notices where the evidence is weak."""

from __future__ import annotations

import numpy as np
import pytest

from deft_lightning import DeftError
from deft_lightning.thresholds.crossing import Curve
from deft_lightning.thresholds.rule import groups_for, lengths, notices, propose_schedule, propose_stages
from tests.helpers import correlation_eigenvalues
from tests.thresholds.test_crossing import gaussian


def pressures(*seeds: list[float | None]) -> list[float]:
    return [stage.pressure for stage in propose_stages(seeds)]


CLEAR: list[list[float | None]] = [[100, 90, 40, 8, 7, None], [95, 98, 42, 9, 8, None], [97, 93, 38, 8, 7, None]]


def test_a_pressure_stands_in_every_gap() -> None:
    """Geometric means of 90 and 42, and of 38 and 9; the last pressure is 1."""
    stages = propose_stages(CLEAR)
    assert [stage.pressure for stage in stages] == [61.5, 18.5, 1.0]
    assert [stage.latents_above for stage in stages] == [[2, 2, 2], [3, 3, 3], [5, 5, 5]]
    assert all(stage.stable for stage in stages)
    assert stages[1].thresholds == [42, 40, 38]
    assert notices(propose_schedule(CLEAR, 1, 1000, 10)) == []


def test_the_order_of_latents_and_seeds_does_not_matter() -> None:
    shuffled = [list(reversed(seed)) for seed in reversed(CLEAR)]
    assert pressures(*shuffled) == pressures(*CLEAR)


def test_a_stray_of_one_seed_is_no_stage() -> None:
    """One latent of one seed at 20, between 38 and 9, joins the nearer of them: the ratios are 1.9 and 2.2."""
    seeds = [[*CLEAR[0], 20.0], *CLEAR[1:]]
    stages = propose_stages(seeds)
    assert [len(stage.thresholds) for stage in stages] == [6, 4, 6]
    assert stages[1].pressure == pytest.approx((20 * 9) ** 0.5, rel=0.01)
    assert stages[1].latents_above == [4, 3, 3]
    assert all(stage.stable for stage in stages)  # every seed has thresholds on both sides of every pressure


def test_many_latents_of_one_seed_are_a_stray_like_one() -> None:
    """In a fast test, one factor may open all remaining latents: a stage if two of three seeds have it, not if one."""
    many = [20.0, 19.5, 19.0, 18.5]
    assert len(pressures([*CLEAR[0], *many], *CLEAR[1:])) == len(pressures(*CLEAR)) == 3
    assert len(pressures([*CLEAR[0], *many], [*CLEAR[1], 19.0], CLEAR[2])) == 4


def test_a_pressure_that_not_every_seed_supports_is_unstable() -> None:
    """The third seed has nothing below 20."""
    seeds = [CLEAR[0], CLEAR[1], CLEAR[2][:3]]
    proposal = propose_schedule(seeds, 1, 1000, 10)
    assert [stage["stable"] for stage in proposal["stages"]] == [True, False, True]
    assert not proposal["stable"]
    (notice,) = notices(proposal)
    assert "the pressure of stage 2, 18.5, is unstable: 1 of 3 seeds do not have thresholds" in notice
    assert "both above and below it" in notice


def quadrants() -> np.ndarray:
    """Eight images, [8, 64, 64]: a square of 24 x 24 pixels in one of four quadrants, and one of 8 x 8 or none.

    The 24^2 pixels of a quadrant are equal, and correlate with another's at -1/3: three eigenvalues of 24^2 * 4/3. The
    8^2 of the small square are equal: one of 64.
    """
    images = np.zeros((8, 64, 64))
    for index, image in enumerate(images):
        top, left = 4 + 32 * (index // 4), 4 + 32 * (index // 2 % 2)
        image[top : top + 24, left : left + 24] = 1
        image[28:36, 28:36] = index % 2
    return images


def test_images_of_two_factors_of_very_different_size_have_the_two_stages_they_should() -> None:
    """From images to a schedule, with a linear Gaussian model at its optimum in place of training.

    It opens a latent for every eigenvalue of the pixels' correlations, 768 three times and 64 once, and its KL is
    log(eigenvalue / beta) / 2: a latent passes 0.1 nats at exp(-0.2) of its eigenvalue.
    """
    eigenvalues = correlation_eigenvalues(quadrants())
    assert eigenvalues[:5] == pytest.approx([768, 768, 768, 64, 0], abs=1e-6)

    latents = []
    for seed in range(3):
        random = np.random.default_rng(seed)
        curve = gaussian(list(random.permutation(eigenvalues)), records=2000, beta_high=1500)
        noise = random.normal(scale=0.01, size=curve.kl_per_latent.shape)
        noisy = Curve(curve.step, curve.beta, curve.reconstruction, np.abs(curve.kl_per_latent + noise))
        crossings = noisy.latent_crossings(limit=0.1, window=100)
        latents.append([None if place is None else float(noisy.beta[place]) for place in crossings])
    stages = propose_stages(latents)
    assert [len(stage.thresholds) for stage in stages] == [9, 3]
    assert [stage.latents_above for stage in stages] == [[3, 3, 3], [4, 4, 4]]
    assert [stage.pressure for stage in stages] == [pytest.approx(np.exp(-0.2) * (768 * 64) ** 0.5, rel=0.05), 1]
    assert all(stage.stable for stage in stages)


def test_a_continuum_is_one_stage_and_that_is_said() -> None:
    even = [[100 / 1.3**i for i in range(10)]] * 3
    assert pressures(*even) == [1.0]
    assert "no gap separates the thresholds" in notices(propose_schedule(even, 1, 1000, 10))[0]


def test_at_most_four_stages_the_widest_gaps_stay() -> None:
    assert pressures([320, 200, 100, 20, 5]) == [pytest.approx(141, abs=1), pytest.approx(44.7, abs=0.1), 10, 1]


def test_what_the_test_cannot_resolve_is_one() -> None:
    """Below a resolution of 4 a gap between 3 and 1.2 is none."""
    assert len(propose_stages([[50, 3, 1.2]], resolution=4)) == 2
    assert len(propose_stages([[50, 3, 1.2]], resolution=1)) == 3


def test_few_seeds_are_no_evidence() -> None:
    proposal = propose_schedule(CLEAR[:1], 1, 1000, 10)
    assert not proposal["stable"]
    assert notices(proposal) == ["1 seed(s) cannot show whether other seeds give the same stages: use n=5."]


def test_nothing_that_opens_is_an_error() -> None:
    with pytest.raises(DeftError, match="no latent of any seed has an information threshold"):
        propose_stages([[None, None], [None, None]])


def test_lengths_add_up_and_the_last_stage_is_the_longest() -> None:
    assert lengths(1, 100) == [100]
    assert lengths(4, 265_000) == [22_083, 22_083, 22_083, 198_751]
    proposal = propose_schedule(CLEAR, 1, 8000, 10)
    assert (proposal["steps"], proposal["epochs"]) == ([1000, 1000, 6000], [100, 100, 600])


def test_groups_hold_all_latents() -> None:
    assert (groups_for(10, 4), groups_for(10, 1), groups_for(10, 2)) == ([3, 3, 2, 2], [10], [5, 5])

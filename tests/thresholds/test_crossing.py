"""Thresholds of curves with a known crossing."""

from __future__ import annotations

import numpy as np
import pytest

from deft_lightning import DeftError
from deft_lightning.model.schedules.anneal import Anneal
from deft_lightning.thresholds.crossing import Curve, check_rule, first_stays_above, outcome, smooth, suggest_beta_high


def made_up(kl_per_latent: np.ndarray, beta_high: float = 200.0) -> Curve:
    """A curve recorded at every 10th step of a test of that length."""
    step = 10 * np.arange(1, len(kl_per_latent) + 1)
    beta = beta_high * (1 - step / step[-1])
    return Curve(step, np.maximum(beta, 1.0), 100 - kl_per_latent.sum(axis=1), kl_per_latent)


def gaussian(variances: list[float], records: int = 1000, beta_high: float = 200.0) -> Curve:
    """The KL of a linear Gaussian model at its optimum: log(variance / beta) / 2 once beta is below the variance."""
    beta = made_up(np.zeros((records, 1)), beta_high).beta
    kl = [0.5 * np.log(np.maximum(variance / beta, 1.0)) for variance in variances]
    return made_up(np.stack(kl, axis=1), beta_high)


def test_the_paper_s_own_example() -> None:
    """A threshold of 52 at iteration 7,400 is beta_high 200 over T 10,000 (section 5.1)."""
    schedule = Anneal(beta_high=200, steps=10_000)
    timeline = schedule.timeline(steps_per_epoch=123)
    assert timeline.at(7_400).pressure == pytest.approx(52)
    assert [timeline.at(step).pressure for step in (0, 9_990, 10_000)] == [200, 1, 1]
    assert (schedule.stages, timeline.boundaries) == (1, (10_000,))
    assert Anneal(200, 10_000, fraction=0.1).timeline().at(740).pressure == pytest.approx(52)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"beta_high": 1}, "schedule.beta_high is 1: give a number above 1"),
        ({"beta_high": "much"}, "schedule.beta_high is 'much'"),
        ({"steps": 0}, "schedule.steps is 0"),
        ({"steps": 1.5}, "schedule.steps is 1.5"),
        ({"fraction": 2}, "scale.fraction is 2"),
    ],
)
def test_a_schedule_out_of_range_is_refused(options: dict, sentence: str) -> None:
    with pytest.raises(DeftError, match=sentence):
        Anneal(**options)


def test_first_stays_above_ignores_what_falls_back() -> None:
    assert first_stays_above(np.array([0.5, 0.0, 0.2, 0.05, 0.2, 0.3]), 0.1) == 4
    assert first_stays_above(np.array([0.2, 0.3]), 0.1) == 0
    assert first_stays_above(np.array([0.0, 0.3, 0.1]), 0.1) is None
    assert first_stays_above(np.array([0.2, np.nan, 0.2]), 0.1) == 2


def test_smoothing_leaves_a_straight_line_where_it_was() -> None:
    """A centred average does not move a crossing; an average over past steps would."""
    step = 10 * np.arange(1, 101)
    smoothed = smooth(0.01 * step, step, 100)
    np.testing.assert_allclose(smoothed[5:-5], 0.01 * step[5:-5])
    noisy = np.where(np.arange(100) % 2, 0.0, 2.0)
    assert np.abs(smooth(noisy, step, 100) - 1).max() < 0.2
    np.testing.assert_array_equal(smooth(noisy, step, 1), noisy)


def test_latents_open_below_the_variance_that_they_explain() -> None:
    """KL = log(v / beta) / 2 is above 0.1 nats where beta < v exp(-0.2)."""
    curve = gaussian([120.0, 60.0, 20.0])
    crossed = outcome(curve, limit=0.1, window=20)
    expected = [v * np.exp(-0.2) for v in (120.0, 60.0, 20.0)]
    assert crossed["latent_thresholds"] == pytest.approx(expected, abs=0.5)
    assert crossed["threshold"]["pressure"] == pytest.approx(expected[0], abs=0.5)  # before any other latent opens
    assert crossed["threshold"]["step"] == pytest.approx(10_000 * (1 - expected[0] / 200), abs=20)
    assert crossed["notices"] == []


def test_a_latent_that_never_opens_has_no_threshold_and_neither_has_data_without_information() -> None:
    one_open = outcome(gaussian([50.0, 0.5]), limit=0.1, window=20)
    assert one_open["latent_thresholds"][1] is None
    empty = outcome(gaussian([0.5, 0.5]), limit=0.1, window=20)
    assert empty["threshold"] is None
    assert empty["notices"] == [
        "the KL never stays above 0.1 nats, so there is no threshold above beta = 1: use more steps, or check that the "
        "images differ."
    ]


def test_a_beta_high_that_is_too_low_says_how_much_to_raise_it() -> None:
    """Under beta = 30 a variance of 120 has log(4) / 2 nats at the start: beta_high should be four times 30."""
    assert suggest_beta_high(gaussian([120.0], beta_high=30.0), 30, 0.1, 20) == pytest.approx(120, rel=0.03)
    assert suggest_beta_high(gaussian([1e6], beta_high=30.0), 30, 0.1, 20) == 300  # never more than ten times
    assert suggest_beta_high(gaussian([120.0], beta_high=200.0), 200, 0.1, 20) is None


def test_a_kl_that_falls_while_the_average_image_is_learnt_does_not_hide_a_beta_high_that_is_too_low() -> None:
    """At first no information passes at any pressure; below 120, a variance of 120 passes as soon as it is learnt."""
    curve = gaussian([120.0], beta_high=30.0)
    curve.kl_per_latent[5:50] = 0.0
    assert suggest_beta_high(curve, 30, 0.1, 20) == pytest.approx(60)  # twice: the KL does not show what is missing
    curve.kl_per_latent[5:200] = 0.0  # down to 0.8 of beta_high: this is a threshold
    assert suggest_beta_high(curve, 30, 0.1, 20) is None


def test_thinned_curves_keep_the_whole_range() -> None:
    thin = gaussian([120.0], records=1234).thinned(500)
    assert len(thin["step"]) == len(thin["kl_per_latent"]) == 500
    assert (thin["step"][0], thin["step"][-1]) == (10, 12_340)
    assert len(gaussian([120.0], records=20).thinned(500)["step"]) == 20


@pytest.mark.parametrize(("limit", "window"), [(0, 100), ("a", 100), (0.1, 0), (0.1, 1.5)])
def test_a_rule_out_of_range_is_refused(limit: object, window: object) -> None:
    with pytest.raises(DeftError, match=r"callbacks.anneal_recorder\.(limit|window) is"):
        check_rule(limit, window)  # type: ignore[arg-type]

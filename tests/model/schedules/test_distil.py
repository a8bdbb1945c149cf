"""The schedule that finds its pressures while training, on latents whose thresholds are known."""

from __future__ import annotations

import json

import pytest

from deft_lightning import DeftError, Distil
from deft_lightning.model.schedules.distil import DistilTimeline

THRESHOLDS = [60.0, 20.0, 5.0]
"""Pressure below which each of three groups opens its latent."""


def distil(**options) -> DistilTimeline:
    """Three stages in 1,000 steps, of which at least 400 at a pressure of 1; windows of 10 steps."""
    fields = {"latents": [1, 1, 1], "epochs": 10, "beta_high": 100, "ratio": 0.5, "final": 0.4}
    fields |= {"window": 10, "patience": 2, "tolerance": 0.05}
    return Distil(**fields | options).timeline(100)


def train(timeline: DistilTimeline, steps: int = 1000, begin: int = 0, grow: int = 3) -> list[int]:
    """Steps at which stages end when an open latent of the active group has settled after `grow` windows.

    A latent of a group that is not active stays as it is: closed where its stage has not begun, otherwise at 2 nats.
    """
    ends: list[int] = []
    for step in range(begin + 1, begin + steps + 1):
        kl = None
        if timeline.window_ends(step):
            stage = timeline.at(step - 1)
            kl = [[2.0 if group < stage.index else 0.01] for group in range(3)]
            # The steps since the pressure fell below the threshold of the active group
            below = [s for s in range(step) if timeline.at(s).index == stage.index]
            open_for = sum(timeline.at(s).pressure < THRESHOLDS[stage.index] for s in below) // 10
            kl[stage.index] = [0.01 if open_for == 0 else 2.0 * min(1.0, open_for / grow)]
        if timeline.observe(step, kl):
            ends.append(step)
    return ends


def test_each_stage_holds_the_first_pressure_at_which_its_group_opens_a_latent() -> None:
    """From 50, halved window by window: the first group opens at once, the second at 12.5, the third at 3.125."""
    timeline = distil()
    assert timeline.boundaries == (200, 400, 1000)
    ends = train(timeline)
    at_ends = [timeline.at(end - 1).pressure for end in ends[:2]]
    assert at_ends == [50, 12.5]
    assert {timeline.at(step).pressure for step in range(ends[1], 1000)} == {12.5, 6.25, 3.125, 1}
    # Windows of 0.67, 1.33, 2, 2, 2 nats: five, until three agree. Two falls come before them in the second stage.
    assert ends == [50, 120, 1000]
    assert timeline.finished
    assert timeline.boundaries == tuple(ends)


def test_the_pressure_falls_only_once_the_next_group_is_active() -> None:
    timeline = distil()
    ends = train(timeline)
    for end in ends[:2]:
        assert timeline.at(end).index == timeline.at(end - 1).index + 1
        assert {timeline.at(step).pressure for step in range(end, end + 10)} == {timeline.at(end - 1).pressure}


def test_the_rest_is_at_a_pressure_of_one_in_the_last_stage() -> None:
    timeline = distil()
    train(timeline)
    last = [timeline.at(step) for step in range(600, 1000)]
    assert {(stage.index, stage.pressure) for stage in last} == {(2, 1.0)}
    assert timeline.at(100_000).pressure == 1


def test_groups_that_never_open_or_settle_end_by_their_share() -> None:
    never = distil()
    for step in range(1, 1001):
        never.observe(step, [[0.0]] * 3 if never.window_ends(step) else None)
    # 50, 25, ... 1 in seven windows; held at 1 for three
    assert never.boundaries == (90, 120, 1000)
    growing = distil()
    for step in range(1, 1001):
        growing.observe(step, [[0.01 * step]] * 3 if growing.window_ends(step) else None)
    assert growing.boundaries == (200, 400, 1000)


def second_stage(timeline: DistilTimeline, kl: list[list[float]], windows: int) -> list[float]:
    """The pressures of the windows of the second stage of which all have the KL `kl`, over that of its first window."""
    step = 0
    while timeline.at(step).index == 0:
        step += 1
        timeline.observe(step, kl if timeline.window_ends(step) else None)
    begin = step
    for step in range(begin + 1, begin + 10 * windows + 1):
        timeline.observe(step, kl if timeline.window_ends(step) else None)
    pressures = [timeline.at(begin + 10 * window).pressure for window in range(windows)]
    return [pressure / pressures[0] for pressure in pressures]


def test_a_latent_that_was_open_before_does_not_count() -> None:
    """A leak: the second group has a latent that opened in the first stage."""
    assert second_stage(distil(latents=[1, 2]), [[2.0], [1.0, 0.02]], windows=4) == [1, 1 / 2, 1 / 4, 1 / 8]


def test_a_group_without_a_closed_latent_holds_the_pressure() -> None:
    assert second_stage(distil(latents=[1, 1]), [[2.0], [1.0]], windows=3) == [1, 1, 1]


@pytest.mark.parametrize("stop", [7, 50, 51, 85, 120, 130, 555, 600, 999])
def test_a_timeline_with_restored_state_goes_on_alike(stop: int) -> None:
    whole, first, second = distil(), distil(), distil()
    train(whole)
    train(first, steps=stop)
    second.state = json.loads(json.dumps(first.state))
    train(second, steps=1000 - stop, begin=stop)
    assert second.boundaries == whole.boundaries
    assert [second.at(step) for step in range(1000)] == [whole.at(step) for step in range(1000)]
    assert first.at(999) != whole.at(999) or stop >= 555  # what is restored is no shared list


def test_lengths_add_up_and_scale() -> None:
    assert distil(epochs=[2, 2, 4, 2]).boundaries == (200, 400, 1000)
    assert distil(epochs=20, fraction=0.5).boundaries == (200, 400, 1000)
    assert distil(epochs=0.02).boundaries == (1, 2, 3)  # every stage has a step


def test_the_first_eigenvalue_is_taken_where_none_is_given() -> None:
    schedule = Distil([1], 1, ratio=0.5)
    assert schedule.resolved(lambda: 199.72).timeline(10).at(0).pressure == pytest.approx(99.85)
    assert schedule.resolved(lambda: 199.72).record({"ratio": 0.5}) == {"ratio": 0.5, "beta_high": 199.7}
    with pytest.raises(DeftError, match=r"schedule\.beta_high is null"):
        schedule.timeline(10)
    with pytest.raises(DeftError, match=r"first eigenvalue of the images is 0\.3"):
        schedule.resolved(lambda: 0.3)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"ratio": 0}, "schedule.ratio is 0"),
        ({"ratio": 1.5}, "schedule.ratio is 1.5"),
        ({"final": 1}, "schedule.final is 1"),
        ({"epochs": []}, r"schedule.epochs is \[\]"),
        ({"epochs": "long"}, "schedule.epochs is 'long'"),
        ({"beta_high": 1}, "schedule.beta_high is 1"),
        ({"window": 0}, "schedule.window is 0"),
    ],
)
def test_bad_arguments_are_one_sentence(options: dict, sentence: str) -> None:
    with pytest.raises(DeftError, match=sentence):
        distil(**options)

"""Stages that end when the KL of their group has settled: the rule by hand."""

from __future__ import annotations

import pytest

from deft_lightning import DeftError
from deft_lightning.model.schedules.adaptive import Adaptive, AdaptiveTimeline


def feed(timeline: AdaptiveTimeline, kl: list[float], begin: int = 0, window: list[float] | None = None) -> list[int]:
    """The steps at which stages end when the KL after step t is kl[t - 1 - begin].

    `window` holds the KL of the steps of a window that began before `begin`, and afterwards of the one that is open.
    """
    ends: list[int] = []
    window = [] if window is None else window
    for step, value in enumerate(kl, start=begin + 1):
        window.append(value)
        mean = None
        if timeline.window_ends(step):
            mean = sum(window) / len(window)
            window.clear()
        if timeline.observe(step, None if mean is None else [[mean]]):
            ends.append(step)
            window.clear()
    return ends


def adaptive(**options) -> AdaptiveTimeline:
    """Two stages of at most 100 and 200 steps."""
    fields = {"epochs": [1, 2], "pressures": [9, 1], "min_epochs": 0, "window": 10, "patience": 2, "tolerance": 0.1}
    return Adaptive(**fields | options).timeline(100)


def test_a_stage_ends_when_patience_plus_one_windows_agree() -> None:
    """Averages of 1, 2, 3, then 4, 4.1, 3.9: the last three differ by 0.2, less than a tenth of 4."""
    kl = [value for value in (1, 2, 3, 4, 4.1, 3.9) for _ in range(10)]
    timeline = adaptive()
    assert timeline.boundaries == (100, 300)  # before any step: the latest possible ends
    assert feed(timeline, kl) == [60]
    assert timeline.boundaries == (60, 260)  # the second stage still has its whole length
    assert [timeline.at(step).pressure for step in (0, 59, 60, 259, 10_000)] == [9, 9, 1, 1, 1]


def test_two_timelines_of_one_schedule_are_independent() -> None:
    schedule = Adaptive([1, 2], [9, 1], window=10, patience=2)
    first, second = schedule.timeline(100), schedule.timeline(100)
    assert feed(first, [5.0] * 30) == [30]
    assert second.boundaries == (100, 300)


def test_windows_begin_with_the_stage() -> None:
    """The second stage needs three windows of its own, counted from where the first ended."""
    assert feed(adaptive(), [5.0] * 100) == [30, 60]
    assert feed(adaptive(epochs=[0.25, 2]), [5.0] * 100) == [25, 55]  # the first is over in its third window


def test_bounds() -> None:
    rising = [1.03**step for step in range(300)]
    assert feed(adaptive(), rising) == [100, 300]  # never settled
    assert feed(adaptive(min_epochs=0.55), [5.0] * 200) == [60, 120]  # settled at 30, but too early before step 55
    assert feed(adaptive(fraction=0.2), rising) == [20, 60]
    assert feed(adaptive(fraction=0.2, min_epochs=0.55, patience=1, window=5), [5.0] * 60) == [15, 30]


def test_below_one_nat_the_tolerance_is_in_nats() -> None:
    """0.02, 0.05 and 0.09 nats differ by large factors, but by too little to wait for."""
    kl = [value for value in (0.02, 0.05, 0.09) for _ in range(10)]
    assert feed(adaptive(), kl) == [30]
    assert feed(adaptive(tolerance=0.05), kl) == []


def test_a_timeline_with_restored_state_ends_its_stages_at_the_same_steps() -> None:
    kl = [value for value in (1, 2, 3, 4, 4.1, 3.9, 1, 1, 1) for _ in range(10)]
    whole = adaptive()
    ends = feed(whole, kl)
    for stop in (5, 39, 60, 75):
        first, second = adaptive(), adaptive()
        window: list[float] = []
        before = feed(first, kl[:stop], window=window)
        second.state = first.state
        assert before + feed(second, kl[stop:], begin=stop, window=window) == ends == [60, 90]


def test_after_the_last_stage_nothing_ends() -> None:
    timeline = adaptive()
    assert feed(timeline, [5.0] * 300) == [30, 60]
    assert timeline.boundaries == (30, 60)
    assert timeline.finished


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"window": 0}, "schedule.window is 0"),
        ({"patience": 1.5}, "schedule.patience is 1.5"),
        ({"min_epochs": -1}, "schedule.min_epochs is -1"),
        ({"tolerance": "low"}, "schedule.tolerance is 'low'"),
        ({"epochs": [1]}, "schedule.pressures has 2 values and schedule.epochs has 1"),
    ],
)
def test_bad_arguments_are_one_sentence(options: dict, sentence: str) -> None:
    with pytest.raises(DeftError, match=sentence):
        adaptive(**options)

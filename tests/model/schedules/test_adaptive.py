"""Stages that end when their group has settled: the rule by hand, and runs that are stopped in the middle."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from deft_lightning import DeftError
from deft_lightning.common import results
from deft_lightning.common.errors import Interrupted
from deft_lightning.model.checkpoint import read_checkpoint
from deft_lightning.model.schedules.adaptive import Adaptive
from deft_lightning.training import run
from tests.helpers import PLAIN, compose_run
from tests.training.test_resume import _send


def feed(schedule: Adaptive, kl: list[float], begin: int = 0, per_epoch: int = 100) -> list[int]:
    """The steps at which stages end when the KL after step t is kl[t - 1]."""
    return [step for step, value in enumerate(kl, start=begin + 1) if schedule.observe(step, value, per_epoch)]


def adaptive(**options) -> Adaptive:
    fields = {"epochs": [1, 2], "pressures": [9, 1], "min_epochs": 0, "window": 10, "patience": 2, "tolerance": 0.1}
    return Adaptive(**fields | options)


def test_a_stage_ends_when_patience_plus_one_windows_agree() -> None:
    """Averages of 1, 2, 3, then 4, 4.1, 3.9: the last three differ by 0.2, less than a tenth of 4."""
    kl = [value for value in (1, 2, 3, 4, 4.1, 3.9) for _ in range(10)]
    schedule = adaptive()
    assert schedule.boundaries(100) == (100, 300)  # nothing is known yet: the latest ends
    assert feed(schedule, kl) == [60]
    assert schedule.boundaries(100) == (60, 260)  # the second stage is given its whole length
    assert [schedule.at(step, 100).pressure for step in (0, 59, 60, 259, 10_000)] == [9, 9, 1, 1, 1]


def test_windows_begin_with_the_stage() -> None:
    """Settled at 30; the second stage, alike, at 60 and not before."""
    assert feed(adaptive(), [5.0] * 100) == [30, 60]


def test_bounds() -> None:
    rising = [1.03**step for step in range(300)]
    assert feed(adaptive(), rising) == [100, 300]  # never settled
    assert feed(adaptive(min_epochs=0.55), [5.0] * 200) == [60, 120]  # settled, but too early until the window at 60
    assert feed(adaptive(fraction=0.2), rising) == [20, 60]
    assert feed(adaptive(fraction=0.2, min_epochs=0.55, patience=1, window=5), [5.0] * 60) == [15, 30]


def test_below_one_nat_the_tolerance_is_in_nats() -> None:
    """0.02, 0.05, 0.09 nats: far apart as ratios, and nothing that is worth waiting for."""
    kl = [value for value in (0.02, 0.05, 0.09) for _ in range(10)]
    assert feed(adaptive(), kl) == [30]
    assert feed(adaptive(tolerance=0.05), kl) == []


def test_the_state_is_all_there_is() -> None:
    kl = [value for value in (1, 2, 3, 4, 4.1, 3.9, 1, 1, 1) for _ in range(10)]
    whole = adaptive()
    ends = feed(whole, kl)
    for stop in (5, 39, 60, 75):
        first, second = adaptive(), adaptive()
        before = feed(first, kl[:stop])
        second.state = first.state
        assert before + feed(second, kl[stop:], begin=stop) == ends == [60, 90]


def test_after_the_last_stage_nothing_ends() -> None:
    schedule = adaptive()
    assert feed(schedule, [5.0] * 300) == [30, 60]
    assert schedule.boundaries(100) == (30, 60)


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
def test_refusals(options: dict, sentence: str) -> None:
    with pytest.raises(DeftError, match=sentence):
        adaptive(**options)


ADAPTIVE = (
    *PLAIN,
    "schedule=adaptive",  # on top of the experiment: its pressures, and its epochs as bounds
    "schedule.epochs=[2,1,1,1]",
    "schedule.min_epochs=0.25",
    "schedule.window=4",
    "schedule.patience=1",
    "schedule.tolerance=1000",  # anything has settled after two windows
    "trainer.log_every_n_steps=2",
)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "uninterrupted"
    run.train(*compose_run(folder, *ADAPTIVE))
    return folder


def test_training_ends_with_the_last_stage(uninterrupted: Path) -> None:
    known = results.read(uninterrupted)
    assert (known["status"], known["steps"], known["boundaries"]) == ("finished", 32, [8, 16, 24, 32])
    assert [stage["step"] for stage in known["stages"].values()] == [8, 16, 24, 32]
    assert [stage["pressure"] for stage in known["stages"].values()] == [160, 105, 30, 1]
    for index in range(4):
        path = uninterrupted / "checkpoints" / f"stage_{index + 1}.ckpt"
        assert read_checkpoint(path)["global_step"] == 8 * (index + 1)


@pytest.mark.parametrize("step", [5, 12, 15])  # in a window, between two, the last step of a stage
def test_stopped_and_resumed_equals_uninterrupted(step: int, uninterrupted: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(Interrupted):
        run.train(*compose_run(folder, *ADAPTIVE, *_send(step, signal.SIGTERM)))
    run.train(*compose_run(folder, *ADAPTIVE, "resume=true"))
    ours, theirs = (read_checkpoint(place / "checkpoints" / "last.ckpt") for place in (folder, uninterrupted))
    assert ours["global_step"] == theirs["global_step"] == 32
    for name, value in theirs["state_dict"].items():
        assert ours["state_dict"][name].equal(value), name
    assert results.read(folder)["stages"] == results.read(uninterrupted)["stages"]
    assert results.read(folder)["boundaries"] == [8, 16, 24, 32]


def test_a_run_killed_after_its_last_stage_takes_no_more_steps_when_resumed(
    uninterrupted: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(uninterrupted, folder)
    results.update(folder, status="running")
    run.train(*compose_run(folder, *ADAPTIVE, "resume=true"))
    ours, theirs = results.read(folder), results.read(uninterrupted)
    for key in ("status", "steps", "stages", "boundaries"):
        assert ours[key] == theirs[key], key


def test_a_window_in_which_nothing_is_logged_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeftError, match=r"schedule.window is 4 steps and trainer.log_every_n_steps 50"):
        run.train(*compose_run(tmp_path / "run", *ADAPTIVE, "trainer.log_every_n_steps=50"))

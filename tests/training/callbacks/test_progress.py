"""The bar covers the whole run; the speed and the time left that it shows are measured."""

from __future__ import annotations

import logging
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
from rich.console import Console

from deft_lightning import FactorDataModule
from deft_lightning.common import console as console_module
from deft_lightning.training.callbacks import RunProgress, progress
from deft_lightning.training.callbacks.progress import duration
from tests.helpers import TinySprites, plain_trainer, tiny_module

pytestmark = pytest.mark.slow  # trains runs


class Look(pl.Callback):
    """The bar's task at the start of the fit and after every step."""

    def __init__(self, bar: RunProgress) -> None:
        self.bar = bar
        self.seen: list[tuple[int, int, int]] = []

    def _look(self, trainer: pl.Trainer) -> None:
        (task,) = self.bar._progress.tasks
        self.seen.append((trainer.global_step, task.completed, task.total))

    def on_train_start(self, trainer, pl_module) -> None:
        self._look(trainer)

    def on_train_batch_end(self, trainer, *_) -> None:
        self._look(trainer)


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> StringIO:
    """A terminal of 200 columns."""
    text = StringIO()
    console = Console(file=text, width=200, force_terminal=True, color_system=None)
    monkeypatch.setattr(console_module.rich, "get_console", lambda: console)
    return text


def _fit(folder: Path, *callbacks: pl.Callback, steps: int, batch_size: int = 32, start: Path | None = None):
    options = {"enable_progress_bar": True, "max_steps": steps, "max_epochs": -1, "log_every_n_steps": 1}
    trainer = plain_trainer(folder, *callbacks, **options)
    trainer.fit(tiny_module(), FactorDataModule(TinySprites(), batch_size), ckpt_path=start, weights_only=True)
    return trainer


def _bars(screen: StringIO) -> list[str]:
    return [line for line in screen.getvalue().splitlines() if "stage " in line]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (45, "45 s"),
        (89.4, "89 s"),
        (90, "2 min"),
        (720, "12 min"),
        (89 * 60, "89 min"),
        (90 * 60, "1 h 30 min"),
        (3 * 3600 + 20 * 60, "3 h 20 min"),
        (7199, "2 h 0 min"),
        (50 * 3600, "50 h 0 min"),
    ],
)
def test_durations_are_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_the_bar_covers_all_stages(tmp_path: Path, screen: StringIO) -> None:
    bar = RunProgress(refresh_seconds=0)
    look = Look(bar)
    _fit(tmp_path, bar, look, steps=12)
    assert look.seen == [(step, step, 12) for step in range(13)]
    last = _bars(screen)[-1]
    for words in ("stage 4/4", "pressure 1 ", "12/12", "reconstruction ", "kl "):
        assert words in last
    assert "stage 2/4  pressure 30 " in screen.getvalue()
    assert bar._progress is None  # the terminal is free again


def test_a_resumed_run_begins_where_it_was(tmp_path: Path, screen: StringIO) -> None:
    trainer = _fit(tmp_path, RunProgress(), steps=5)
    trainer.save_checkpoint(tmp_path / "here.ckpt")
    bar = RunProgress(refresh_seconds=0)
    look = Look(bar)
    _fit(tmp_path, bar, look, steps=12, start=tmp_path / "here.ckpt")
    assert look.seen == [(step, step, 12) for step in range(5, 13)]


def test_speed_and_time_left_are_those_of_50_measured_steps(
    tmp_path: Path, screen: StringIO, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Steps of 2 images that take 0.5 s, after 20 that take 10 s, with 192 - 70 steps left: 4 images/s, 61 s."""
    calls = iter(range(1000))
    clock = SimpleNamespace(monotonic=lambda: 10.0 * min(n := next(calls), 19) + 0.5 * max(n - 19, 0))
    monkeypatch.setattr(progress, "time", clock)
    with caplog.at_level(logging.INFO, logger="deft_lightning"):
        _fit(tmp_path, RunProgress(refresh_seconds=0), steps=73, batch_size=2)
    messages = [record.getMessage() for record in caplog.records if record.name.startswith("deft_lightning")]
    assert messages == ["4 images/s: the remaining 122 steps take about 61 s."]
    assert "4 images/s" in _bars(screen)[-1]


def test_a_run_of_fewer_steps_makes_no_estimate(tmp_path, screen, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="deft_lightning"):
        _fit(tmp_path, RunProgress(), steps=12)
    assert not [record for record in caplog.records if record.name.startswith("deft_lightning")]


def test_the_bar_is_drawn_no_more_often_than_asked(tmp_path: Path, screen: StringIO) -> None:
    bar = RunProgress(refresh_seconds=1000)
    look = Look(bar)
    _fit(tmp_path, bar, look, steps=12)
    assert [completed for _, completed, _ in look.seen] == [0, *[1] * 11, 12]  # the first, and the last always


def test_a_failing_run_leaves_the_terminal_free(tmp_path: Path, screen: StringIO) -> None:
    class Fail(pl.Callback):
        def on_train_batch_start(self, trainer, *_) -> None:
            if trainer.global_step == 2:
                raise RuntimeError("fails")

    bar = RunProgress()
    with pytest.raises(RuntimeError, match="fails"):
        _fit(tmp_path, bar, Fail(), steps=12)
    assert bar._progress is None


def test_everything_is_readable_on_80_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = StringIO()
    console = Console(file=text, width=80, force_terminal=True, color_system=None)
    monkeypatch.setattr(console_module.rich, "get_console", lambda: console)
    _fit(tmp_path, RunProgress(refresh_seconds=0), steps=12)
    assert "12/12" in text.getvalue()
    assert "…" not in text.getvalue()

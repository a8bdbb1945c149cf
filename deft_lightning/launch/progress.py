"""How far the running jobs of a sweep have come, as their results.json say: a table on a terminal, else a line."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import Pipe, connection
from pathlib import Path
from threading import Thread
from typing import Any

import rich
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from deft_lightning.common import results
from deft_lightning.common.console import duration
from deft_lightning.common.errors import DeftError

log = logging.getLogger(__name__)

TABLE_SECONDS, LINE_SECONDS = 2.0, 300.0
"""How often the table is drawn anew, and how often a line is logged where there is none."""


@dataclass
class JobProgress:
    """How far the job in `folder` has come, and how fast it is: images of `batch_size` a step."""

    folder: Path
    batch_size: int
    status: str = "starting"
    step: int = 0
    boundaries: list[int] = field(default_factory=list)
    steps_per_second: float | None = None
    _changed: int | None = None
    _clock: tuple[int, float] | None = None

    @property
    def total(self) -> int | None:
        """Steps of the whole run; None before they are known."""
        return self.boundaries[-1] if self.boundaries else None

    @property
    def stage(self) -> str:
        """The stage it is in, such as "2/4"."""
        if not self.boundaries:
            return ""
        ended = sum(end <= self.step for end in self.boundaries)
        return f"{min(ended + 1, len(self.boundaries))}/{len(self.boundaries)}"

    @property
    def images_per_second(self) -> float | None:
        """Of late, evaluation included."""
        return None if self.steps_per_second is None else self.steps_per_second * self.batch_size

    @property
    def seconds_left(self) -> float | None:
        """Of training, at the present speed."""
        if self.total is None or not self.steps_per_second:
            return None
        return (self.total - self.step) / self.steps_per_second

    def look(self) -> None:
        """Read results.json again, if it has changed; a file that cannot be read is left for later."""
        try:
            changed = (self.folder / results.FILE).stat().st_mtime_ns
            if changed == self._changed:
                return
            content = results.read(self.folder)
        except (OSError, DeftError):
            return
        self._changed = changed
        self.status = str(content.get("status", "starting"))
        self.step = content.get("steps", self.step)
        self.boundaries = content.get("boundaries", self.boundaries)
        self._time(content.get("timings", {}))

    def _time(self, timings: dict[str, Any]) -> None:
        """The speed between two readings: that of the whole run has compilation and earlier sessions in it."""
        if "train_steps" not in timings or "train_seconds" not in timings:
            return
        now = int(timings["train_steps"]), float(timings["train_seconds"])
        before, self._clock = self._clock, now
        if before is None or now[0] < before[0]:
            self.steps_per_second = timings.get("steps_per_second")
        elif now[0] == before[0] or now[1] - before[1] < 1:  # seconds are rounded: too short to measure
            self._clock = before
        else:
            self.steps_per_second = (now[0] - before[0]) / (now[1] - before[1])


@dataclass(frozen=True)
class Total:
    """The sweep as a whole: images per second, and seconds left, as far as the running jobs tell."""

    images_per_second: float
    seconds_left: float | None


def total(running: Iterable[JobProgress], waiting: int) -> Total:
    """Add up the running jobs; `waiting` ones are taken to be as long as these on average."""
    jobs = list(running)
    lengths = [job.total for job in jobs if job.total is not None]
    speed = sum(job.steps_per_second or 0 for job in jobs)
    images = sum(job.images_per_second or 0 for job in jobs)
    if not lengths or not speed:
        return Total(images, None)
    mean = sum(lengths) / len(lengths)
    steps = sum((mean if job.total is None else job.total) - job.step for job in jobs) + waiting * mean
    longest = max((job.seconds_left or 0 for job in jobs), default=0)
    return Total(images, max(steps / speed, longest))


def table(running: Iterable[JobProgress], ended: int, waiting: int) -> Table:
    """One row for each running job, and one for the sweep."""
    jobs = list(running)
    lines = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), show_footer=True)
    whole = total(jobs, waiting)
    count = f"{ended} of {ended + len(jobs) + waiting} jobs have ended, {waiting} wait"
    lines.add_column("job", count, overflow="ellipsis", no_wrap=True, ratio=1)
    footers = {"stage": "", "step": "", "images/s": _number(whole.images_per_second or None)}
    footers["time left"] = _time(whole.seconds_left)
    for name, footer in footers.items():
        lines.add_column(name, footer, justify="right", no_wrap=True)
    for job in jobs:
        step = job.status if job.total is None else f"{job.step:,} of {job.total:,}"
        lines.add_row(escape(job.folder.name), job.stage, step, _number(job.images_per_second), _time(job.seconds_left))
    return lines


def line(running: Iterable[JobProgress], ended: int, waiting: int) -> str:
    """The same in one line."""
    jobs = list(running)
    whole = total(jobs, waiting)
    left = "" if whole.seconds_left is None else f", about {duration(whole.seconds_left)} left"
    count = ended + len(jobs) + waiting
    return (
        f"{ended} of {count} jobs have ended, {len(jobs)} run: {whole.images_per_second:,.0f} images/s in total{left}"
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _time(seconds: float | None) -> str:
    return "" if seconds is None else duration(seconds)


class Board:
    """Shows the progress of the running jobs: as a table in `live`, else with `logged` as a line now and then.

    `screen` is where the jobs print, so that their messages stand above the table; None for the screen itself.
    """

    def __init__(
        self, live: Live | None = None, screen: connection.Connection | None = None, logged: bool = False
    ) -> None:
        self.screen = screen
        self._live, self._logged = live, logged
        self._shown = time.monotonic()

    def show(self, running: Iterable[JobProgress], ended: int, waiting: int) -> None:
        """Look at the running jobs, where it is time to, and show how far they have come."""
        now = time.monotonic()
        if now - self._shown < (LINE_SECONDS if self._live is None else TABLE_SECONDS):
            return
        self._shown = now
        jobs = list(running)
        for job in jobs:
            job.look()
        if self._live is not None:
            self._live.update(table(jobs, ended, waiting), refresh=True)
        elif self._logged and jobs:
            log.info("%s", line(jobs, ended, waiting))


@contextmanager
def shown(several: bool) -> Iterator[Board]:
    """The board of a sweep during the block: a table on a terminal if `several` jobs run at once, a line elsewhere.

    A single job at a time on a terminal has a progress bar of its own.
    """
    if not rich.get_console().is_terminal:
        yield Board(logged=True)
        return
    if not several:
        yield Board()
        return
    console = Console(force_terminal=True)  # whatever the environment of the jobs says, which is set at times
    reader, writer = Pipe(duplex=False)
    with Live(console=console, auto_refresh=False, transient=True) as live, _logging_above():
        relay = Thread(target=_relay, args=(reader, console), daemon=True)
        relay.start()
        try:
            yield Board(live, writer)
        finally:
            writer.close()
            relay.join(2)  # a process that a job has left behind may keep it open


def _relay(reader: connection.Connection, console: Console) -> None:
    """Print what jobs print, above the table."""
    with open(reader.fileno(), errors="replace", closefd=False) as lines:
        for text in lines:
            console.print(Text.from_ansi(text.rstrip("\n")), soft_wrap=True)


@contextmanager
def _logging_above() -> Iterator[None]:
    """Let logging write to the present sys.stdout, which prints above the table, not to that of its set-up."""
    handlers = [handler for handler in logging.getLogger().handlers if type(handler) is logging.StreamHandler]
    before = [handler.setStream(sys.stdout) for handler in handlers]
    try:
        yield
    finally:
        for handler, stream in zip(handlers, before, strict=True):
            if stream is not None:
                handler.setStream(stream)

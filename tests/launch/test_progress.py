"""How far the jobs of a sweep have come: read from their results.json, drawn as a table or said in a line."""

from __future__ import annotations

import logging
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from rich.console import Console

from deft_lightning.common import results
from deft_lightning.launch import progress
from deft_lightning.launch.progress import Board, JobProgress
from deft_lightning.launch.sweep import jobs
from tests.launch.test_processes import FOLDER, PROCESSES, elsewhere, wait_until

__all__ = ["elsewhere"]


def job(folder: Path, steps: int, seconds: float, boundaries: tuple[int, ...] = (100, 300, 1000)) -> JobProgress:
    """A job of batches of 10 images, as it is after it has been looked at once."""
    write(folder, steps, seconds, boundaries)
    made = JobProgress(folder.absolute(), batch_size=10)
    made.look()
    return made


def write(folder: Path, steps: int, seconds: float, boundaries: tuple[int, ...] = (100, 300, 1000)) -> None:
    timings = {"train_steps": steps, "train_seconds": seconds, "steps_per_second": round(steps / seconds, 2)}
    results.update(folder, status="running", steps=steps, boundaries=list(boundaries), timings=timings)


def test_a_job_is_as_far_as_its_results_say() -> None:
    made = job(Path("a"), 100, 50)
    assert (made.stage, made.step, made.total) == ("2/3", 100, 1000)
    assert made.images_per_second == 20  # over the whole run
    assert made.seconds_left == 450
    write(Path("a"), 300, 60)
    made.look()
    assert (made.stage, made.images_per_second, made.seconds_left) == ("3/3", 200, 35)  # since the last reading
    write(Path("a"), 1000, 60.5)  # too short to measure
    made.look()
    assert (made.stage, made.images_per_second, made.seconds_left) == ("3/3", 200, 0)


def test_a_job_that_says_nothing_yet_is_starting() -> None:
    made = JobProgress(Path("b"), batch_size=10)
    made.look()
    assert (made.status, made.stage, made.total, made.seconds_left) == ("starting", "", None, None)
    Path("b").mkdir()
    Path("b", results.FILE).write_text("{")
    made.look()
    assert made.status == "starting"


def test_the_total_counts_the_jobs_that_wait() -> None:
    running = [job(Path("a"), 500, 50), job(Path("b"), 250, 50)]  # 10 and 5 steps a second
    whole = progress.total(running, waiting=2)
    assert whole.images_per_second == 150
    assert whole.seconds_left == pytest.approx((500 + 750 + 2 * 1000) / 15)
    assert progress.total(running, waiting=0).seconds_left == 150  # the slower one alone takes that long
    assert progress.total([], waiting=2).seconds_left is None


def test_the_table_has_a_row_for_each_job_and_one_for_the_sweep() -> None:
    running = [job(Path("deft_seed0_[x]"), 500, 50), JobProgress(Path("deft_seed1"), 10)]
    console = Console(width=120, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(progress.table(running, ended=3, waiting=4))
    head, first, second, last = (" ".join(row.split()) for row in console.export_text().splitlines())
    assert head == "job stage step images/s time left"
    assert first == "deft_seed0_[x] 3/3 500 of 1,000 100 50 s"
    assert second == "deft_seed1 starting"
    assert last == "3 of 9 jobs have ended, 4 wait 100 9 min"


def test_without_a_terminal_there_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = iter((0.0, 1.0, 299.0, 301.0, 302.0, 302.0, 900.0))  # of the board, of four looks at it, of another board
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    running = [job(Path("a"), 500, 50)]
    with caplog.at_level(logging.INFO), progress.shown(several=True) as board:
        assert board.screen is None
        for _ in range(4):
            board.show(running, ended=1, waiting=1)
        Board().show(running, ended=1, waiting=1)
    (record,) = caplog.records
    assert record.message == "1 of 3 jobs have ended, 1 run: 100 images/s in total, about 2 min left"


@pytest.mark.slow  # starts processes
def test_on_a_terminal_a_table_stands_below_what_the_jobs_print(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TERM": "xterm", "COLUMNS": "120", "LINES": "30"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("TTY_COMPATIBLE", raising=False)
    Path("trouble").touch()
    screen, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.launch.tasks", "seed=3", "lr=0.1,0.2,0.3", *PROCESSES],
        stdout=terminal, stderr=terminal, stdin=terminal, start_new_session=True,
    )  # fmt: skip
    os.close(terminal)
    printed: list[bytes] = []

    def read() -> None:
        try:
            while chunk := os.read(screen, 65536):
                printed.append(chunk)
        except OSError:  # the terminal is closed
            pass

    def text() -> str:
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", b"".join(printed).decode())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        wait_until(lambda: "0 of 3 jobs have ended, 1 wait" in text() and "5 of 2,000" in text())
        wait_until(lambda: text().count("seed 3 has begun") == 2)  # one may begin long after the other
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(60) == 1
    finally:
        process.kill()
        reader.join(10)
        os.close(screen)
    shown = text()
    assert shown.count("seed 3 has begun") == 2
    assert "SIGTERM: the jobs save their checkpoints and stop; no other begins." in shown
    assert [done["status"] for done in jobs(FOLDER).values()] == ["interrupted"] * 2
    assert "0 of 3 jobs finished" in shown

from __future__ import annotations

import io

import pytest
import rich
from rich.console import Console

from deft_lightning.data.progress import progress_bar


@pytest.fixture(params=[True, False], ids=["terminal", "file"])
def console(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Console:
    console = Console(file=io.StringIO(), force_terminal=request.param, width=100)
    monkeypatch.setattr(rich, "get_console", lambda: console)
    return console


def test_the_bar_counts_on_a_terminal_and_a_file_stays_empty(console):
    with progress_bar("Counting", 30, 10, unit="MB") as advance:
        for _ in range(8):
            advance(2.5)
    printed = console.file.getvalue()
    assert ("Counting" in printed and "30/30" in printed and "MB" in printed) is console.is_terminal
    assert bool(printed) is console.is_terminal


def test_after_an_error_the_bar_stays_where_it_was(console):
    def fail() -> None:
        with progress_bar("Counting", None) as advance:
            advance(7)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert ("7/?" in console.file.getvalue()) is console.is_terminal

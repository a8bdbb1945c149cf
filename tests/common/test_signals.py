"""Which signals stop a run."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from deft_lightning.common import signals
from deft_lightning.common.errors import Interrupted
from deft_lightning.common.signals import stop_signals

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs the signals of POSIX")


@pytest.fixture(autouse=True)
def _restored_handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGUSR2)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_hang_up_stops_a_run_unless_it_is_ignored() -> None:
    signal.signal(signal.SIGUSR2, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    assert stop_signals() == [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    assert stop_signals() == [signal.SIGINT, signal.SIGTERM]


def test_sigusr2_stops_a_run_where_a_launcher_handles_it() -> None:
    signal.signal(signal.SIGUSR2, lambda number, frame: None)
    assert signal.SIGUSR2 in stop_signals()
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    assert signal.SIGUSR2 not in stop_signals()


def test_a_signal_that_asks_to_stop_is_raised_and_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    sentence = "the run was stopped by SIGTERM: resume=true continues"
    with pytest.raises(Interrupted, match=sentence) as caught, signals.stopping("the run"):
        signal.raise_signal(signal.SIGTERM)
    assert caught.value.signal == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before


def test_in_a_thread_signals_are_left_alone() -> None:
    def work() -> str:
        with signals.stopping("the run"):
            return "done"

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(work).result() == "done"

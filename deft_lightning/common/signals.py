"""The signals that ask a run to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from deft_lightning.common.errors import Interrupted

CONTINUE = "resume=true continues from the last checkpoint, if there is one."


def stop_signals() -> list[signal.Signals]:
    """SIGINT, SIGTERM and SIGHUP, and a cluster's SIGUSR2 where a launcher handles it, as submitit does.

    SIGHUP, which a closed terminal sends, is left out where it is ignored, as `nohup` has it.
    """
    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    if hasattr(signal, "SIGUSR2") and callable(signal.getsignal(signal.SIGUSR2)):
        numbers.append(signal.SIGUSR2)
    return numbers


@contextmanager
def stopping(what: str) -> Iterator[None]:
    """Raise `Interrupted` on the signals that ask a run to stop; Ctrl-C stays a `KeyboardInterrupt`.

    `what` is stopped, such as "the measurement". Does nothing in threads, where Python has no signals.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        raise Interrupted(f"{what} was stopped by {name}: {CONTINUE}", number)

    main = threading.current_thread() is threading.main_thread()
    numbers = [number for number in stop_signals() if number != signal.SIGINT] if main else []
    previous = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

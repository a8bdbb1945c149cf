"""The signals that ask a run to stop."""

from __future__ import annotations

import signal


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

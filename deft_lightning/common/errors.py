"""Exceptions that end in one sentence on the screen."""

from __future__ import annotations


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, without a full stop at its end; its type where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")


class DeftError(Exception):
    """A mistake that the user can fix, as one sentence: what is wrong, where, what to do.

    The command line prints the sentence and exits with status 1; no traceback is shown.
    """


class Incomplete(DeftError):
    """A run ended after a whole step, but before its last one; it can be resumed from its checkpoint."""


class Interrupted(Incomplete):
    """A signal asked the run to stop; it stopped after a whole step, with its checkpoint written.

    `signal` is the number of the signal, None where another process received it.
    """

    def __init__(self, sentence: str, signal: int | None = None) -> None:
        super().__init__(sentence)
        self.signal = signal


class Diverged(DeftError):
    """The loss or the weights are no longer finite: training the same run again would end the same way."""

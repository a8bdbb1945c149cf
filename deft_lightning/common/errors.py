"""Exceptions that end in one sentence on the screen."""

from __future__ import annotations


class DeftError(Exception):
    """A mistake the user can mend, said in one sentence: what is wrong, where, what to do.

    The command line prints the sentence and exits with status 1; no traceback is shown.
    """


class Interrupted(DeftError):
    """The run was asked to stop, and stopped after a whole step with its checkpoint written.

    `signal` is the one that asked, None where another process was asked.
    """

    def __init__(self, sentence: str, signal: int | None = None) -> None:
        super().__init__(sentence)
        self.signal = signal

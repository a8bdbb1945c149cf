"""The one exception for mistakes a user can mend."""


class DeftError(Exception):
    """A mistake the user can mend, said in one sentence: what is wrong, where, what to do.

    The command line prints the sentence and exits with status 1; no traceback is shown.
    """

"""Which pixels a data set takes: the published ones, or those that the package renders in their stead."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from deft_lightning.common.errors import DeftError
from deft_lightning.data.cache import MissingDataError, Prepared

SOURCES = ("auto", "official", "rendered")


class Found(NamedTuple):
    """Which of the two sources was taken, what it holds, and why the other was not if that needs saying."""

    source: str
    prepared: Prepared
    notices: tuple[str, ...]


def find(source: str, official: Callable[[], Prepared], rendered: Callable[[], Prepared]) -> Found:
    """The pixels from `source`; "auto" takes the official ones, and rendered ones where those are missing.

    Raises DeftError when `source` is none of `SOURCES`, or when its data can be neither read nor made.
    """
    if source not in SOURCES:
        raise DeftError(f"data.source is {source!r}, and should be auto, official or rendered")
    notices: tuple[str, ...] = ()
    if source != "rendered":
        try:
            return Found("official", official(), notices)
        except MissingDataError as error:
            if source == "official":
                raise
            if error.damaged:
                notices = (f"Rendered images stand in for the official ones: {error}.",)
    return Found("rendered", rendered(), notices)

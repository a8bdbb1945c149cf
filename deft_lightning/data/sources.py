"""Which images a data set takes: the published ones, or those that this package renders."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from deft_lightning.common import checks
from deft_lightning.data.cache import MissingDataError, Prepared

SOURCES = ("auto", "published", "rendered")


class Selection(NamedTuple):
    """The source that was taken, "published" or "rendered", its arrays, and notices for the user."""

    source: str
    prepared: Prepared
    notices: tuple[str, ...]


def select(source: str, published: Callable[[], Prepared], rendered: Callable[[], Prepared]) -> Selection:
    """The images from `source`; "auto" takes the published ones, or rendered ones where those are missing.

    Raises `DeftError` when `source` is not one of `SOURCES`, and when its images can be neither read nor made.
    """
    checks.choice("data.source", source, SOURCES)
    notices: tuple[str, ...] = ()
    if source != "rendered":
        try:
            return Selection("published", published(), notices)
        except MissingDataError as error:
            if source == "published":
                raise
            if error.damaged:
                notices = (f"Rendered images replace the published ones: {error}",)
    return Selection("rendered", rendered(), notices)
